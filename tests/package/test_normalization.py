import subprocess
import sys

import keras
import numpy as np
import pytest

from clr.normalization import batch_normalization

tf = pytest.importorskip("tensorflow")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(2, 3, size=(16, 8, 8, 5)).astype("float32")


def results(layer, training_layer=True):
    """Outputs, gradients and moving averages of a training step, and outputs at inference."""
    layer.build(X.shape)
    layer.gamma.assign([1, 2, 3, 0.5, 0.1])
    layer.beta.assign([1, 2, 3, 4, 5])
    layer.trainable = training_layer
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 2 * x)
    gradients = tape.gradient(loss, [x, *layer.trainable_variables])
    found = [y, *gradients, layer.moving_mean, layer.moving_variance, layer(x, training=False)]
    return [keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")) for value in found]


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-6), ("mixed_bfloat16", 2e-3), ("mixed_float16", 5e-4)]
)
def test_it_computes_what_keras_own_layer_does(dtype, tolerance, trainable):
    keras.config.set_dtype_policy(dtype)
    try:
        ours = results(batch_normalization(0.9), trainable)
        keras_own = results(keras.layers.BatchNormalization(momentum=0.9), trainable)
    finally:
        keras.config.set_dtype_policy("float32")
    for one, other in zip(ours, keras_own, strict=True):
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


def test_it_is_fused():
    @tf.function
    def step(x):
        return layer(x, training=True)

    layer = batch_normalization()
    kinds = {op.type for op in step.get_concrete_function(tf.constant(X)).graph.get_operations()}
    assert "FusedBatchNormV3" in kinds


def test_a_saved_model_loads_without_this_package_and_predicts_the_same(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 5)), batch_normalization(0.7)])
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    script = f"""
import sys
sys.modules["clr"] = None  # No import of it can succeed.
import keras, numpy as np
model = keras.models.load_model({str(tmp_path / "model.keras")!r})
assert type(model.layers[0]) is keras.layers.BatchNormalization
assert model.layers[0].momentum == 0.7
np.save({str(tmp_path / "y.npy")!r}, model.predict(np.load({str(tmp_path / "x.npy")!r}), verbose=0))
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-5)


def test_images_of_few_pixels_give_no_infinite_variance():
    layer = batch_normalization(0.0)
    layer(np.ones((1, 1, 1, 3), "float32"), training=True)
    assert np.isfinite(keras.ops.convert_to_numpy(layer.moving_variance)).all()

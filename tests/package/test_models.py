"""MiniGoogLeNet: its size, what it accepts and refuses, and what its output is."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

from clr import MiniGoogLeNet

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), dtype="float32")


def kernels(network):
    return [w.shape for w in network.trainable_weights if len(w.shape) == 4]


def test_default_network_has_the_documented_number_of_parameters():
    network = MiniGoogLeNet()
    assert network.count_params() == 1_656_250
    assert network.output_shape == (None, 10)
    assert network.name == "mini_googlenet"


@pytest.mark.parametrize("shape", [(32, 32, 1), (33, 47, 3), (64, 40, 4)])
def test_any_size_from_32_up_works(shape):
    network = MiniGoogLeNet(shape, classes=3, width=0.05)
    out = convert_to_numpy(network(np.ones((2, *shape), "float32")))
    assert out.shape == (2, 3)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)


def test_width_scales_every_layer():
    full, half = kernels(MiniGoogLeNet()), kernels(MiniGoogLeNet(width=0.5))
    assert [n[-1] for n in half] == [n[-1] // 2 for n in full]
    assert min(n[-1] for n in kernels(MiniGoogLeNet(width=0.001))) == 1


def test_two_classes_pair_with_binary_cross_entropy():
    out = convert_to_numpy(MiniGoogLeNet(classes=2, width=0.05)(IMAGES))
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(out[:, 0]) > 0
    labels = np.eye(2, dtype="float32")[[0, 1, 1, 0]]
    np.testing.assert_allclose(
        keras.losses.binary_crossentropy(labels, out),
        keras.losses.categorical_crossentropy(labels, out),
        rtol=1e-5,
    )


def test_dropout_acts_in_training_only():
    keras.utils.set_random_seed(0)
    network = MiniGoogLeNet(width=0.05, dropout=0.5)
    training = [convert_to_numpy(network(IMAGES, training=True)) for _ in range(2)]
    resting = [convert_to_numpy(network(IMAGES, training=False)) for _ in range(2)]
    assert not np.allclose(*training, atol=1e-6)
    np.testing.assert_allclose(*resting, atol=1e-6)


def test_batch_normalisation_takes_its_momentum():
    def momenta(network):
        kind = keras.layers.BatchNormalization
        return {layer.momentum for layer in network.layers if isinstance(layer, kind)}

    assert momenta(MiniGoogLeNet(width=0.05)) == {0.99}
    assert momenta(MiniGoogLeNet(width=0.05, bn_momentum=0.8)) == {0.8}


def test_output_is_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = MiniGoogLeNet(width=0.05)
    finally:
        keras.config.set_dtype_policy(before)
    assert network.layers[1].compute_dtype == "bfloat16"
    out = network(IMAGES)
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    np.testing.assert_allclose(convert_to_numpy(out).sum(axis=1), 1, rtol=1e-5)


def test_a_global_setting_of_channels_first_changes_nothing():
    plain = MiniGoogLeNet((32, 40, 3), width=0.05)
    keras.config.set_image_data_format("channels_first")
    try:
        network = MiniGoogLeNet((32, 40, 3), width=0.05)
        network.set_weights(plain.get_weights())
        images = np.random.default_rng(1).random((2, 32, 40, 3), dtype="float32")
        out = convert_to_numpy(network(images))
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(out, convert_to_numpy(plain(images)), rtol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value", "error", "echo"),
    [
        ("input_shape", (31, 32, 3), ValueError, "(31, 32, 3)"),
        ("input_shape", (32, 8, 3), ValueError, "(32, 8, 3)"),
        ("input_shape", (32, 32), ValueError, "(32, 32)"),
        ("input_shape", 32, ValueError, "32"),
        ("input_shape", (32, 32, 0), ValueError, "0"),
        ("input_shape", (32, None, 3), TypeError, "None"),
        ("input_shape", (32.5, 32, 3), ValueError, "32.5"),
        ("classes", 1, ValueError, "1"),
        ("classes", 2.5, ValueError, "2.5"),
        ("classes", "ten", TypeError, "'ten'"),
        ("width", 0, ValueError, "0"),
        ("width", -0.5, ValueError, "-0.5"),
        ("width", float("nan"), ValueError, "nan"),
        ("width", None, TypeError, "None"),
        ("dropout", 1, ValueError, "1"),
        ("dropout", -0.1, ValueError, "-0.1"),
        ("dropout", "half", TypeError, "'half'"),
        ("bn_momentum", 1, ValueError, "1"),
        ("bn_momentum", -0.1, ValueError, "-0.1"),
        ("bn_momentum", None, TypeError, "None"),
    ],
)
def test_bad_argument_is_named_with_its_value(argument, value, error, echo):
    with pytest.raises(error) as caught:
        MiniGoogLeNet(**{argument: value})
    assert f"`{argument}`" in str(caught.value)
    assert f"{argument}={echo}" in str(caught.value)

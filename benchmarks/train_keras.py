"""Our side of throughput.py: trains MiniGoogLeNet and prints what it took, as JSON.

python benchmarks/train_keras.py [--plain] float32|bfloat16 STEPS EPOCHS MATRIX

--plain: with Keras's own batch normalisation.
"""

import json
import sys
import time

import keras
import numpy as np
from harness import interleaved

import clr


def keras_normalization(momentum: float = 0.99) -> keras.layers.BatchNormalization:
    """Returns what clr.normalization stands in for."""
    return keras.layers.BatchNormalization(momentum=momentum)


def matrix_rate(dtype: str, side: int) -> float:
    """Returns the flop/s of a large matrix product: the best of several."""
    import tensorflow as tf

    a = tf.cast(tf.random.normal((side, side)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    return 2 * side**3 / min(interleaved({"": lambda: product().numpy()}, 5)[""])


def training_flops(model: keras.Model) -> int:
    """Returns the floating-point operations of a training step for one image, convolutions only.

    A multiplication and an addition for each weight and place, forwards; as much again for the
    gradient of the input, which the first layer's does without, and for that of the weights.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    forward = [2 * int(np.prod(c.kernel.shape) * np.prod(c.output.shape[1:3])) for c in layers]
    return 3 * sum(forward) - forward[0]


def main() -> None:
    """Trains and prints."""
    plain, (dtype, *numbers) = "--plain" in sys.argv, sys.argv[-4:]
    steps, epochs, side = map(int, numbers)
    if plain:
        clr.models.batch_normalization = keras_normalization
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=64 * steps)
    data = clr.datasets.from_arrays(
        *(rng.random((64 * steps, 32, 32, 3), "float32"), labels),
        *(rng.random((64, 32, 32, 3), "float32"), labels[:64]),
        name="random",
        classes=tuple("0123456789"),
    )
    precision = "float32" if dtype == "float32" else f"mixed_{dtype}"
    model = clr.build(clr.Experiment(augment=False, dtype=precision), data)
    batches = clr.datasets.Batches(data.x_train, data.y_train, 64, 0)
    cycle = clr.CyclicLR(1e-7, 1e-2, steps * epochs // 2)
    model.fit(batches, epochs=1, shuffle=False, verbose=0)
    begin = time.perf_counter()
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[cycle])
    seconds = time.perf_counter() - begin
    result = {"seconds": seconds, "matrix": matrix_rate(dtype, side)}
    print(json.dumps({**result, "flops": training_flops(model)}))


if __name__ == "__main__":
    main()

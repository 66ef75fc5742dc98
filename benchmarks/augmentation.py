"""What augmentation costs: against Keras's former ImageDataGenerator, and in a training."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from harness import interleaved, quartiles, ratios, write

import clr

IMAGES, REPEATS = 2048, 7


def compared(seconds: dict[str, list[float]], against: str, ratio: str) -> list[dict[str, Any]]:
    """Returns a row for each contestant, with its seconds over those of one of them."""
    return [
        {
            "contestant": name,
            "images/s": quartiles([IMAGES / s for s in values]),
            ratio: ratios(values, seconds[against]),
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    """Measures, prints and writes."""
    rng = np.random.default_rng(0)
    x = rng.random((IMAGES, 32, 32, 3), "float32")
    labels = rng.integers(10, size=IMAGES)
    layers = clr.datasets.augmentation()
    augment = tf.function(lambda images: layers(images, training=True))
    # Deprecated, and no longer in Keras's documentation: the tutorial's way.
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True, fill_mode="nearest"
    )

    def ours() -> None:
        for begin in range(0, IMAGES, 64):
            augment(x[begin : begin + 64]).numpy()

    def theirs() -> None:
        batches = generator.flow(x, batch_size=64, shuffle=False)
        for _ in range(IMAGES // 64):
            next(batches)

    seconds = interleaved({"clr's layers": ours, "ImageDataGenerator": theirs}, REPEATS)
    rows = compared(seconds, "ImageDataGenerator", "time over ImageDataGenerator's")
    about = f"shifts and flips of {IMAGES} images of 32x32x3, {REPEATS} repeats"
    write("augmentation", rows, about, "time over ImageDataGenerator's")

    data = clr.datasets.from_arrays(
        *(x, labels, x[:64], labels[:64]), name="random", classes=tuple("0123456789")
    )

    def training(augmented: bool):
        keras.utils.set_random_seed(0)
        model = clr.build(replace(clr.Experiment(), augment=augmented), data)
        batches = clr.datasets.Batches(data.x_train, data.y_train, 64, 0)
        return lambda: model.fit(batches, epochs=1, shuffle=False, verbose=0)

    seconds = interleaved({"plain": training(False), "augmented": training(True)}, REPEATS)
    rows = compared(seconds, "plain", "times a plain epoch")
    about = f"an epoch of MiniGoogLeNet, width 1, float32, {IMAGES} images, {REPEATS} repeats"
    write("augmented_epoch", rows, about, "times a plain epoch")


if __name__ == "__main__":
    main()

"""What a range test's step costs beside `fit`'s, over the same steps of the same training.

A step lasts from the beginning of one batch to the beginning of the next. Both calls are timed as
a whole as well: with what Keras does at the beginning and at each epoch's end, and for the range
test until the model is put back.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from harness import interleaved, quartiles, ratios, write
from sklearn.datasets import load_digits

import clr
from clr.range_test import rising

# Low, so that no test diverges; and without the trials, which are trainings of their own.
RISE: dict[str, Any] = {"start_lr": 1e-6, "end_lr": 1e-3, "trials": 0, "verbose": 0}


class Clock(keras.callbacks.Callback):
    """Notes when each batch begins, and nothing else."""

    def __init__(self):
        super().__init__()
        self.begun: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(time.perf_counter())

    def step(self) -> float:
        """Returns the median seconds of a step, and forgets them all."""
        begun, self.begun = self.begun, []
        return statistics.median(b - a for a, b in itertools.pairwise(begun))


def clocked(clock: Clock) -> type:
    """Returns the range test's own callback, which tells the clock first."""

    class Clocked(rising._Rise):
        def on_train_batch_begin(self, batch, logs=None):
            clock.on_train_batch_begin(batch)
            super().on_train_batch_begin(batch, logs)

    return Clocked


def small() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Returns a network of two layers, and the digits: 56 batches of 32."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    x, y = load_digits(return_X_y=True)
    return model, x[:1792].astype("float32") / 16, y[:1792]


def large() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Returns the book's network at half its width, and noise for images: 10 batches of 32."""
    random = np.random.default_rng(0)
    x = random.normal(size=(320, 32, 32, 3)).astype("float32")
    return clr.MiniGoogLeNet(width=0.5), x, random.integers(10, size=320)


def row(name: str, network: Callable[[], Any], epochs: int, repeats: int) -> dict[str, Any]:
    """Returns the table's row for a network."""
    model, x, y = network()
    model.compile(
        keras.optimizers.SGD(1e-4, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    options: dict[str, Any] = {"batch_size": 32, "epochs": epochs}
    clock = Clock()
    steps: dict[str, list[float]] = {"fit": [], "range test": []}

    def fit() -> None:
        model.fit(x, y, verbose=0, callbacks=[clock], **options)
        steps["fit"].append(1000 * clock.step())

    def range_test() -> None:
        clr.lr_range_test(model, x, y, **RISE, **options)
        steps["range test"].append(1000 * clock.step())

    module: Any = rising
    before, module._Rise = module._Rise, clocked(clock)
    try:
        seconds = interleaved({"fit": fit, "range test": range_test}, repeats)
    finally:
        module._Rise = before
    ours, keras_own = steps["range test"][1:], steps["fit"][1:]  # The first round is not counted.
    return {
        "network": name,
        "steps": epochs * len(x) // 32,
        "ms a step of fit": quartiles(keras_own),
        "ms a step of the range test": quartiles(ours),
        "times a step of fit": ratios(ours, keras_own),
        "times a call of fit": ratios(seconds["range test"], seconds["fit"]),
    }


def main() -> None:
    """Measures, prints and writes."""
    keras.utils.set_random_seed(0)
    rows = [
        row("two dense layers", small, epochs=6, repeats=20),
        row("MiniGoogLeNet at half width", large, epochs=1, repeats=10),
    ]
    about = "a range test's step beside fit's, with batches of 32; 20 and 10 repeats"
    write("range_test", rows, about, "times a step of fit")


if __name__ == "__main__":
    main()

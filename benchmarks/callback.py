"""What setting the rate costs a training step, in the worst case: a model of one layer."""

from typing import Any

import keras
import numpy as np
from harness import interleaved, quartiles, ratios, write

import clr

STEPS, REPEATS = 1000, 15
X = np.random.default_rng(0).normal(size=(STEPS, 8)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
CYCLE: dict[str, Any] = {"base_lr": 1e-4, "max_lr": 1e-2, "step_size": 500}


class Reference(keras.callbacks.Callback):
    """The algorithm of github.com/bckenstler/CLR on Keras 3.

    After each batch it reads the rate back, keeps a log of everything, and sets the next rate.
    """

    def on_train_begin(self, logs=None):
        self.iteration, self.history = 0, {}
        self.model.optimizer.learning_rate = CYCLE["base_lr"]

    def on_train_batch_end(self, batch, logs=None):
        self.iteration += 1
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.history.setdefault("lr", []).append(rate)
        self.history.setdefault("iterations", []).append(self.iteration)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        cycle = np.floor(1 + self.iteration / (2 * CYCLE["step_size"]))
        x = np.abs(self.iteration / CYCLE["step_size"] - 2 * cycle + 1)
        amplitude = CYCLE["max_lr"] - CYCLE["base_lr"]
        rate = CYCLE["base_lr"] + amplitude * np.maximum(0, 1 - x)
        self.model.optimizer.learning_rate = rate


def contestant(rate, *callbacks):
    """Returns a function that trains for STEPS steps."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return lambda: model.fit(X, Y, batch_size=1, verbose=0, callbacks=list(callbacks))


def main() -> None:
    """Measures, prints and writes."""
    seconds = interleaved(
        {
            "bare fit": contestant(0.01),
            "CyclicLR": contestant(0.01, clr.CyclicLR(**CYCLE)),
            "CyclicalLearningRate": contestant(clr.CyclicalLearningRate(**CYCLE)),
            "the reference's algorithm": contestant(0.01, Reference()),
            "Keras's LearningRateScheduler": contestant(
                0.01, keras.callbacks.LearningRateScheduler(lambda epoch: 0.01)
            ),
        },
        REPEATS,
    )
    bare = seconds["bare fit"]
    added = {
        name: [value - other for value, other in zip(values, bare, strict=True)]
        for name, values in seconds.items()
    }
    rows = [
        {
            "contestant": name,
            "ms a step": quartiles([1000 * s / STEPS for s in values]),
            "times a bare step": ratios(values, bare),
            "share of the reference's cost": ratios(
                added[name], added["the reference's algorithm"]
            ),
        }
        for name, values in seconds.items()
    ]
    about = f"a step of a one-layer model, {STEPS} steps of one example, {REPEATS} repeats"
    write("callback", rows, about, "times a bare step")


if __name__ == "__main__":
    main()

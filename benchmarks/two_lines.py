"""What the two lines are worth: a range test and one cycle, against Keras's default rate.

    result = lr_range_test(model, x, y, batch_size=64)
    model.fit(x, y, batch_size=64, epochs=20, callbacks=[result.one_cycle()])

A classifier, a regression and a recurrent network, each trained as a user would, with `compile` and
`fit`; both contestants of a seed start from the same weights. Three minutes.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from bounds_tasks import Data, digits, friedman, text
from harness import write
from keras import layers

from clr import lr_range_test

SEEDS, EPOCHS, BATCH_SIZE = 5, 20, 64


def dense() -> list[Any]:
    """A dense network."""
    return [layers.Dense(64, "relu"), layers.Dense(32, "relu")]


def gru() -> list[Any]:
    """A recurrent network."""
    return [layers.Embedding(32, 16), layers.GRU(24, unroll=True)]


def trained(data: Data, net: Callable[[], list[Any]], optimizer: str, seed: int, ours: bool) -> Any:
    """Returns the test score: accuracy in per cent, or 100 R2."""
    keras.utils.set_random_seed(seed)
    classes = data.y.dtype == "int32"
    inputs = keras.Input(data.x.shape[1:], dtype=str(data.x.dtype))
    last = layers.Dense(data.outputs, "softmax" if classes else None)
    model = keras.Sequential([inputs, *net(), last])
    loss, metric = (
        ("sparse_categorical_crossentropy", "accuracy") if classes else ("mse", "R2Score")
    )
    model.compile(optimizer, loss, metrics=[metric])
    callbacks = []
    if ours:
        result = lr_range_test(model, data.x, data.y, batch_size=BATCH_SIZE, verbose=0)
        callbacks = [result.one_cycle()]
    model.fit(data.x, data.y, batch_size=BATCH_SIZE, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    return 100 * model.evaluate(data.x_test, data.y_test, verbose=0)[1]


def main() -> None:
    """Trains, prints and writes."""
    rows = []
    for name, data, net in [
        ("classifier", digits(), dense),
        ("regression", friedman(), dense),
        ("GRU", text(), gru),
    ]:
        for optimizer in ("sgd", "adam"):
            scores = np.array(
                [
                    [trained(data, net, optimizer, seed, ours) for ours in (False, True)]
                    for seed in range(SEEDS)
                ]
            )
            rows.append(
                {
                    "contestant": f"{name}, {optimizer}",
                    "default": round(scores[:, 0].mean(), 2),
                    "two lines": round(scores[:, 1].mean(), 2),
                    "gains": np.round(scores[:, 1] - scores[:, 0], 2).tolist(),
                }
            )
            print(rows[-1], flush=True)
    about = (
        f"test score (accuracy in per cent, or 100 R2) after {EPOCHS} epochs at Keras's default "
        f"rate, and with a range test and one cycle in its place; means of {SEEDS} seeds"
    )
    write("two_lines", rows, about)


if __name__ == "__main__":
    main()

"""`evaluated`: the last network, the average and the ensemble on the test images, side by side."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from clr import datasets
from clr.averaging import AveragedWeights
from clr.batch_statistics import update_batch_normalization
from clr.snapshots import Snapshots

AT_ONCE = 256  # Images evaluated in one step.


def evaluated(
    model: keras.Model,
    data: datasets.Dataset,
    batch_size: int,
    snapshots: Snapshots | None,
    average: AveragedWeights | None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Returns a `Run`'s fields that say how the networks do, and the seconds of each.

    The model is left with its last weights.

    Args:
        model: The trained model.
        data: The data it was trained on.
        batch_size: Of the batches that it was trained on.
        snapshots: What kept the networks at the ends of cycles, if anything did.
        average: What averaged the weights, if anything did.
    """
    seconds: dict[str, float] = {}
    true = data.y_test.argmax(axis=1)

    def predicted() -> np.ndarray:
        return model.predict(data.x_test, batch_size=AT_ONCE, verbose=0).argmax(axis=1)

    def accuracy(classes: np.ndarray) -> float:
        return float((classes == true).mean())

    model.predict(data.x_test[:AT_ONCE], batch_size=AT_ONCE, verbose=0)  # What it takes to compile.
    with _clock(seconds, "evaluate"):
        last = predicted()
    fields: dict[str, Any] = _report(data, last)
    if average is not None and average.numbers:
        with _clock(seconds, "average"):
            average.apply(data.x_train, batch_size)
            found = accuracy(predicted())
        average.restore()
        fields["averaged"] = {
            "accuracy": found,
            "numbers": average.numbers,
            "last": _with_statistics(model, data, batch_size, lambda: accuracy(predicted())),
        }
    if snapshots is not None and len(snapshots.weights) > 1:
        with _clock(seconds, "ensemble"):
            together = snapshots.predict(data.x_test, batch_size=AT_ONCE).argmax(axis=1)
        weights, alone = model.get_weights(), []
        for _, kept in sorted(snapshots.weights.items()):
            model.set_weights(kept)
            alone.append(accuracy(predicted()))
        model.set_weights(weights)
        fields["snapshots"] = {"accuracy": alone, "ensemble": accuracy(together)}
    return fields, seconds


def _with_statistics(
    model: keras.Model, data: datasets.Dataset, batch_size: int, measure: Callable[[], float]
) -> float:
    """Measures a model whose batch normalisation has the statistics that an average would get."""
    weights = model.get_weights()
    update_batch_normalization(model, data.x_train, batch_size)
    found = measure()
    model.set_weights(weights)
    return found


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


def _report(data: datasets.Dataset, predicted: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import classification_report, confusion_matrix

    true, labels = data.y_test.argmax(axis=1), range(len(data.classes))
    report = classification_report(
        true,
        predicted,
        labels=labels,
        target_names=data.classes,
        output_dict=True,
        zero_division=0,
    )
    return {
        "classes": list(data.classes),
        # scikit-learn leaves "accuracy" out if a class is missing from the test images.
        "report": {**report, "accuracy": float((true == predicted).mean())},
        "confusion": confusion_matrix(true, predicted, labels=labels).tolist(),
    }

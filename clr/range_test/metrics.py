"""Which of the values that a model reports is its accuracy."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from clr import optimizers

ACCURACY = re.compile(r"(.*_)?acc(uracy)?(_\d+)?", re.IGNORECASE)


def accuracy_in(model: keras.Model, logs: Iterable[str]) -> str | None:
    """Returns the name under which a model reports its first accuracy, or `None`.

    This is a metric of one of Keras's `...Accuracy` classes, or one whose name is `acc` or
    `accuracy`, or ends with `_acc` or `_accuracy`. Of a model that computes its logs by itself, a
    log of such a name counts too. What has "loss" in its name never counts.

    Args:
        model: A compiled model, its metrics built.
        logs: The names of what it reports.
    """
    names = [name for name in logs if "loss" not in name.lower()]
    metrics = [m.name for m in _all(model.metrics) if _is_accuracy(m)]
    own = optimizers.has_own_step(model) or not optimizers.is_keras(type(model).compute_metrics)
    for name in names:
        # With several outputs, the output's name comes before the metric's.
        if any(name == metric or name.endswith(f"_{metric}") for metric in metrics):
            return name
    return next((name for name in names if own and ACCURACY.fullmatch(name)), None)


def _all(metrics: Iterable[Any]) -> Iterator[Any]:
    for metric in metrics:
        yield metric
        yield from _all(getattr(metric, "metrics", None) or [])


def _is_accuracy(metric: Any) -> bool:
    named = ACCURACY.fullmatch(metric.name) and "loss" not in metric.name.lower()
    return bool(named) or any(kind.__name__.endswith("Accuracy") for kind in type(metric).__mro__)

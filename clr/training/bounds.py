"""`FoundBounds`: the bounds that a range test found before a training run, and the test itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras

from clr import checks
from clr.datasets import Batches
from clr.progress import is_watched
from clr.range_test import RangeTest, lr_range_test
from clr.training.experiment import WITHOUT_MIN_LR, Experiment


@dataclass(frozen=True)
class FoundBounds:
    """What `max_lr="auto"` became, and where it comes from.

    Attributes:
        min_lr: The lower bound: found, or the number that the experiment gives.
        max_lr: The upper bound, found.
        method: How the range test was read; see `RangeTest.suggest`.
        warning: What the suggestion warned of, or `None`.
        range_test: The range test: its rates, losses, settings and why it stopped.

    Raises:
        TypeError: A bound is not a number.
        ValueError: A bound is out of its range.
    """

    min_lr: float
    max_lr: float
    method: str
    warning: str | None
    range_test: RangeTest

    def __post_init__(self) -> None:
        """Checks the bounds."""
        checks.rate("min_lr", self.min_lr)
        checks.above("max_lr", self.max_lr)
        checks.at_least("max_lr", self.max_lr, "min_lr", self.min_lr)

    def put_into(self, experiment: Experiment) -> Experiment:
        """Returns the experiment with these numbers as its bounds."""
        return replace(experiment, min_lr=self.min_lr, max_lr=self.max_lr)

    def in_words(self, experiment: Experiment) -> str:
        """Returns the steps of the test, and the bounds that the experiment's method uses."""
        lower = "" if experiment.clr_method in WITHOUT_MIN_LR else f"base_lr={self.min_lr:.3g}, "
        return f"{len(self.range_test.lrs)} steps; {lower}max_lr={self.max_lr:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the bounds as plain values that JSON can hold."""
        return {**asdict(self), "range_test": self.range_test.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FoundBounds":
        """Returns the bounds that `to_dict` described.

        Raises:
            TypeError: A value is missing, unknown or of the wrong type.
            ValueError: A value is out of its range, or the range test is damaged.
        """
        return cls(**{**values, "range_test": RangeTest.from_dict(values.get("range_test", {}))})


def find(
    experiment: Experiment, model: keras.Model, batches: Batches, verbose: bool = False
) -> FoundBounds:
    """Makes a range test and returns what it suggests for an experiment's bounds.

    The test takes the batches of the training run's first epoch, again and again if it is longer,
    and puts the model back.

    Args:
        experiment: What to train, with `max_lr="auto"`.
        model: Its network, compiled with a fixed rate.
        batches: Its batches.
        verbose: Whether to show how far the test is, where somebody watches.

    Raises:
        ValueError: The test has no answer, or `min_lr` is above the `max_lr` that it found.

    Warns:
        UserWarning: What the suggestion warns of.
    """
    result = lr_range_test(
        model,
        batches,
        batch_size=experiment.batch_size,
        shuffle=False,
        verbose=int(verbose and is_watched()),
    )
    try:
        suggestion = result.suggest()
    except ValueError as error:
        raise ValueError(
            "The range test for `max_lr` found no bounds, so nothing was trained. Give a number "
            f"for max_lr. Received: max_lr={experiment.max_lr!r}. The test said: {error}"
        ) from error
    given = experiment.min_lr
    min_lr = given if isinstance(given, float) else suggestion.base_lr
    if min_lr > suggestion.max_lr:
        raise ValueError(
            f"`min_lr` must be at most the `max_lr` that the range test found, "
            f"{suggestion.max_lr:.3g}. Leave min_lr out, or give a number for max_lr. "
            f"Received: min_lr={min_lr!r}, max_lr={experiment.max_lr!r}"
        )
    return FoundBounds(min_lr, suggestion.max_lr, suggestion.method, suggestion.warning, result)

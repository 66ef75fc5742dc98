"""Reading a curve: its moving average, and bounds off it. Numbers only."""

from bisect import bisect_left
from typing import Any

import numpy as np

SKIP_FIRST = 10  # Steps not read: the average holds too few batches yet.
SKIP_LAST = 1  # Nor is the point at which the loss blew up.
FEWEST_POINTS = 5  # To read.

SMITH = "Smith (2017), arXiv:1506.01186, section 3.3"
SOURCES = {
    "steepest": f"max_lr: fastai, callback/schedule.py, `steep`; base_lr: {SMITH}",
    "valley": f"max_lr: fastai, callback/schedule.py, `valley`; base_lr: {SMITH}",
    "minimum": f"max_lr: fastai, callback/schedule.py, `minimum`; base_lr: {SMITH}",
    "accuracy": SMITH,
}


def _beta(config: dict[str, Any]) -> float:
    # `beta` is meant for a training step; a point of a validation curve stands for several.
    return config["beta"] ** (config["validation_every"] or 1)


class _Average:
    """A bias-corrected exponential moving average, one value at a time."""

    def __init__(self, beta: float):
        self.beta, self.sum, self.count = beta, 0.0, 0

    def __call__(self, value: float) -> float:
        self.count += 1
        self.sum = self.beta * self.sum + (1 - self.beta) * value
        return self.sum / (1 - self.beta**self.count)


def _mid_valley(losses: np.ndarray) -> int:
    """Returns the index halfway along the longest falling subsequence."""
    tails: list[float] = []  # The highest possible ends, negated, of such ones by their length.
    lengths = []
    for loss in losses:
        at = bisect_left(tails, -loss)
        tails[at : at + 1] = [-loss]
        lengths.append(at + 1)
    end = int(np.argmax(lengths))
    third = lengths[end] / 3
    # fastai's arithmetic: as if the subsequence stood in one piece, a third and half a third on.
    return max(end - lengths[end], 0) + int(third) + int(third / 2)

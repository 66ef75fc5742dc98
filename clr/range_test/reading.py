"""Reading a curve: its moving average, its noise, and bounds off it. Numbers only.

To add a reading, write a function from a `Curve` to two bounds, and enter it in `READINGS`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SKIP_FIRST = 10  # Steps not read: the average holds too few batches yet.
SKIP_LAST = 1  # The point at which the loss blew up is not read either.
FEWEST_POINTS = 5  # Fewer points are not read.


def beta_per_point(beta: float, every: int) -> float:
    """Returns the weight of the past per point of a curve with `every` training steps a point."""
    return beta**every  # `beta` is meant for one training step.


class Average:
    """A bias-corrected exponential moving average, one value at a time."""

    def __init__(self, beta: float):
        self.beta, self.sum, self.count = beta, 0.0, 0

    def __call__(self, value: float) -> float:
        """Takes in the next value and returns the average so far."""
        self.count += 1
        self.sum = self.beta * self.sum + (1 - self.beta) * value
        return self.sum / (1 - self.beta**self.count)


class Way(NamedTuple):
    """The way down from the plateau at a curve's beginning to its lowest point.

    Attributes:
        lrs: The rates, up to the one at the lowest point.
        values: The averaged values at these rates. Accuracies are negated, so that they fall too.
        made: The share of the way that is made at these rates: 1 at the lowest point.
    """

    lrs: np.ndarray
    values: np.ndarray
    made: np.ndarray

    @property
    def begin(self) -> int:
        """Where the descent begins: the last point with at most a tenth of the way made."""
        return int(np.flatnonzero(self.made <= 0.1)[-1])


@dataclass(frozen=True)
class Curve:
    """What a range test measured, as a reading takes it.

    Attributes:
        lrs: The rates, one a point.
        values: The losses or accuracies at these rates, as they were measured.
        of: What the values are: `"loss"` or `"accuracy"`.
        beta: Weight of the past, per training step, in the moving average.
        every: Training steps from one point to the next.
        stopped: Why the test ended.
    """

    lrs: Sequence[float]
    values: Sequence[float]
    of: str
    beta: float
    every: int
    stopped: str

    @property
    def skip_first(self) -> int:
        """How many points at the beginning are not read."""
        return math.ceil(SKIP_FIRST / self.every)

    @property
    def window(self) -> slice:
        """The points that are read."""
        return slice(self.skip_first, -SKIP_LAST)

    @property
    def beta_per_point(self) -> float:
        """Weight of the past, per point, in the moving average."""
        return beta_per_point(self.beta, self.every)

    def smoothed(self) -> np.ndarray:
        """Returns the values' bias-corrected moving average, one a point."""
        average = Average(self.beta_per_point)
        return np.array([average(value) for value in self.values])

    def noise(self, plateau: int, last: int) -> float:
        """Returns how far the average strays at a point, by chance alone.

        This is the spread of the single values on the plateau, less what the average evens out.

        Args:
            plateau: Points of the plateau, after those that are not read.
            last: The point, counted from the first that is read.
        """
        spread = float(np.std(self.values[: self.skip_first + plateau]))
        weights = self.beta_per_point ** np.arange(self.skip_first + last + 1)
        return spread * float(np.linalg.norm(weights) / weights.sum())

    def way(self) -> Way:
        """Returns the way down to the lowest point, or up to the highest if these are accuracies.

        Raises:
            ValueError: The curve is too short, or it never leaves its own noise.
        """
        sign, verb = (-1, "climbs") if self.of == "accuracy" else (1, "falls")
        lrs, curve = np.array(self.lrs)[self.window], (sign * self.smoothed())[self.window]
        if len(lrs) < FEWEST_POINTS:
            raise ValueError(
                f"The curve is too short to read: {len(self.lrs)} points, of which the first "
                f"{self.skip_first} and the last are not read. It ended because: {self.stopped}. "
                "Raise num_steps; if the loss diverged or was not finite, lower start_lr, and look "
                "at the data for NaN."
            )
        low = int(curve.argmin())
        # The plateau before the descent. Its median, as the average's first values stray.
        plateau = curve[: low // 2 + 1]
        start = float(np.median(plateau))
        noise = self.noise(len(plateau), low)
        if low < FEWEST_POINTS or start - curve[low] <= max(0.01 * abs(start), 4 * noise):
            raise ValueError(
                f"The {self.of} never {verb} beyond its own noise: from {sign * start:.4g} to "
                f"{sign * curve[low]:.4g} at best, between rates {lrs[0]:.1e} and {lrs[-1]:.1e}. "
                "If the curve is flat, raise end_lr or num_steps; if it only gets worse, lower "
                "start_lr. If neither helps, does the model learn at any rate?"
            )
        made = (start - curve[: low + 1]) / (start - curve[low])
        return Way(lrs[: low + 1], curve[: low + 1], made)


def steepest(curve: Curve) -> tuple[float, float]:
    """Reads `max_lr` where the loss falls fastest over the rate's logarithm."""
    way = curve.way()
    # Not before the descent, where the average of few batches makes steps of its own.
    lrs, losses = way.lrs[way.begin :], way.values[way.begin :]
    slopes = np.diff(losses) / np.diff(np.log(lrs))
    return _bounds(way, lrs[slopes.argmin()])


def valley(curve: Curve) -> tuple[float, float]:
    """Reads `max_lr` halfway along the longest descent."""
    way = curve.way()
    return _bounds(way, way.lrs[_mid_valley(way.values)])


def minimum(curve: Curve) -> tuple[float, float]:
    """Reads `max_lr` as a tenth of the rate at which the loss is lowest."""
    way = curve.way()
    return _bounds(way, way.lrs[-1] / 10)


def accuracy(curve: Curve) -> tuple[float, float]:
    """Reads both bounds off the climb: where a tenth of it is made, and where 95 %."""
    way = curve.way()
    return way.lrs[way.begin], way.lrs[np.argmax(way.made >= 0.95)]


def _bounds(way: Way, max_lr: float) -> tuple[float, float]:
    """Returns both bounds: `base_lr` where the loss begins to fall, at most `max_lr / 4`."""
    return min(way.lrs[way.begin], max_lr / 4), max_lr


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


class Reading(NamedTuple):
    """A way to read bounds off a curve.

    Attributes:
        bounds: The function that reads `base_lr` and `max_lr`. It raises `ValueError` where the
            curve holds no answer.
        source: Where the method comes from.
        of: Which curve it reads: `"loss"` or `"accuracy"`.
    """

    bounds: Callable[[Curve], tuple[float, float]]
    source: str
    of: str = "loss"


SMITH = "Smith (2017), arXiv:1506.01186, section 3.3"
FASTAI = "max_lr: fastai, callback/schedule.py, `{}`; base_lr: " + SMITH
READINGS = {
    "steepest": Reading(steepest, FASTAI.format("steep")),
    "valley": Reading(valley, FASTAI.format("valley")),
    "minimum": Reading(minimum, FASTAI.format("minimum")),
    "accuracy": Reading(accuracy, SMITH, of="accuracy"),
}
DEFAULT = "valley"
SOURCES = {method: reading.source for method, reading in READINGS.items()}

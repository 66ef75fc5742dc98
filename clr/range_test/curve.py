"""A curve as the readings take it: its moving average, its noise, the way down. Numbers only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SKIP_FIRST = 10  # Steps not read: the average holds too few batches yet.
SKIP_LAST = 1  # The point at which the loss blew up is not read either.
FEWEST_POINTS = 5  # Fewer points are not read.
SIGMA = 0.25  # Decades: the width of the Gaussian of `Curve.centred`.


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


class Centred(NamedTuple):
    """A curve averaged without a lag, over the rate's logarithm.

    Attributes:
        lrs: The rates, one a point, without a rate of 0 and the last point.
        x: Their decimal logarithms.
        average: The averaged losses.
        noise: How far the average strays by chance at each point, judged by how far the losses up
            to there stray from one another.
    """

    lrs: np.ndarray
    x: np.ndarray
    average: np.ndarray
    noise: np.ndarray


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
        default_lr: The rate that the optimizer has if none is named, if that is known.
        trials: The highest rate of each short training, and the loss after it.
    """

    lrs: Sequence[float]
    values: Sequence[float]
    of: str
    beta: float
    every: int
    stopped: str
    default_lr: float | None = None
    trials: Sequence[tuple[float, float]] = ()

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
        self.require_points()
        sign = -1 if self.of == "accuracy" else 1
        lrs, curve = np.array(self.lrs)[self.window], (sign * self.smoothed())[self.window]
        low = int(curve.argmin())
        # The plateau before the descent. Its median, as the average's first values stray.
        plateau = curve[: low // 2 + 1]
        start = float(np.median(plateau))
        noise = self.noise(len(plateau), low)
        if low < FEWEST_POINTS or start - curve[low] <= max(0.01 * abs(start), 4 * noise):
            raise self.no_descent(lrs, sign * start, sign * curve[low])
        made = (start - curve[: low + 1]) / (start - curve[low])
        return Way(lrs[: low + 1], curve[: low + 1], made)

    def centred(self) -> Centred:
        """Returns the losses averaged over the rate's logarithm by a Gaussian: it does not lag.

        Losses far above the plateau at the beginning count as twice the plateau. So the average
        shows where the loss begins to rise, and not how far it will.
        """
        lrs, losses = np.array(self.lrs[:-SKIP_LAST]), np.array(self.values[:-SKIP_LAST])
        losses, lrs = losses[lrs > 0], lrs[lrs > 0]  # A linear test may begin at a rate of 0.
        plateau = np.median(losses[: max(1, len(losses) // 10)])
        # Where losses can be negative, the plateau may be near 0: then as far up as they go down.
        losses = np.minimum(losses, plateau + max(abs(plateau), plateau - losses.min()))
        x = np.log10(lrs)
        # Sums over hundredths of a decade, so that long and uneven curves are averaged as quickly.
        at = np.round((x - x[0]) * 100).astype(int)
        reach = round(300 * SIGMA)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (100 * SIGMA)) ** 2)

        def spread(weights: np.ndarray | None, kernel: np.ndarray) -> np.ndarray:
            return np.convolve(np.bincount(at, weights), kernel)[reach + at]

        total = spread(None, kernel)
        # Of neighbours' differences, which a descent hardly adds to. The first few tell little.
        seen = np.clip(np.arange(len(x)), min(30, len(x) - 1), None)
        single = np.sqrt(np.cumsum(np.diff(losses) ** 2)[seen - 1] / seen / 2)
        noise = single * np.sqrt(spread(None, kernel**2)) / total
        return Centred(lrs, x, spread(losses, kernel) / total, noise)

    def require_points(self) -> None:
        """Checks that the curve is long enough.

        Raises:
            ValueError: It is not.
        """
        if len(self.lrs[self.window]) < FEWEST_POINTS:
            raise ValueError(
                f"The curve is too short to read: {len(self.lrs)} points, of which the first "
                f"{self.skip_first} and the last are not read. It ended because: {self.stopped}. "
                "Raise num_steps; if the loss diverged or was not finite, lower start_lr, and look "
                "at the data for NaN."
            )

    def no_descent(self, lrs: np.ndarray, start: float, best: float) -> ValueError:
        """Returns the error of a curve that never leaves its own noise.

        Args:
            lrs: The rates that were read.
            start: The average at the beginning.
            best: The average at its best.
        """
        verb = "climbs" if self.of == "accuracy" else "falls"
        return ValueError(
            f"The {self.of} never {verb} beyond its own noise: from {start:.4g} to {best:.4g} at "
            f"best, between rates {lrs[0]:.2g} and {lrs[-1]:.2g}. If the curve is flat, raise "
            "end_lr or num_steps; if it only gets worse, lower start_lr. If neither helps, does "
            "the model learn at any rate?"
        )

"""Reading a curve: its moving average, its noise, and bounds off it. Numbers only.

To add a reading, write a function from a `Curve` to two bounds, and enter it in `READINGS`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

SKIP_FIRST = 10  # Steps not read: the average holds too few batches yet.
SKIP_LAST = 1  # The point at which the loss blew up is not read either.
FEWEST_POINTS = 5  # Fewer points are not read.
SIGMA = 0.25  # Decades: the width of the Gaussian of `Curve.centred`.
CLEAR = 5  # Times its noise: four are reached once in fifty tests of 300 steps, by chance.
GAIN = 0.02  # Of the loss without training: trials that lower it less tell nothing.
FEWEST_A_DECADE = 20  # With fewer steps around the descent, `edge` warns.


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


class Bounds(NamedTuple):
    """What a reading may return in place of two bounds: the two, and what else it has to say.

    Attributes:
        base_lr: Lower bound.
        max_lr: Upper bound.
        warning: Why the bounds should not be trusted as they are, and what to do.
        marks: The rates that they were read from, by name, for a figure.
    """

    base_lr: float
    max_lr: float
    warning: str | None = None
    marks: Mapping[str, float] = MappingProxyType({})


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
            f"best, between rates {lrs[0]:.1e} and {lrs[-1]:.1e}. If the curve is flat, raise "
            "end_lr or num_steps; if it only gets worse, lower start_lr. If neither helps, does "
            "the model learn at any rate?"
        )


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


def edge(curve: Curve) -> Bounds:
    """Reads `max_lr` as a third of the rate at which the loss begins to rise again: the edge.

    It is at most ten times the rate at which nine tenths of the descent are made, three times where
    the test ended before an edge. `base_lr` is a tenth of `max_lr`.
    """
    curve.require_points()
    lrs, x, average, noise = centred = curve.centred()
    low = int(average.argmin())
    # Half of the way in decades, so that a linear test has a plateau too.
    start = float(np.median(average[x <= (x[0] + x[low]) / 2]))
    depth = start - average[low]
    if low < FEWEST_POINTS or depth <= max(0.01 * abs(start), CLEAR * noise[low]):
        return _before_the_rise(curve, centred, start)
    made = (start - average[: low + 1]) / depth
    reach = lrs[np.argmax(made >= 0.9)]
    marks = {"plateau": lrs[np.flatnonzero(made <= 0.1)[-1]], "reach": reach, "low": lrs[low]}
    warnings = []
    risen = low + np.flatnonzero(average[low:] >= average[low] + 0.1 * depth)
    if len(risen) or curve.stopped in ("loss diverged", "loss not finite"):
        marks["edge"] = lrs[risen[0] if len(risen) else -1]
        max_lr = min(marks["edge"] / 3, 10 * reach)
    else:
        max_lr = min(lrs[-1] / 3, 3 * reach)
        warnings.append(
            f"The loss never rises again up to the last rate, {lrs[-1]:.1e}, so max_lr is a "
            f"cautious guess. It ended because: {curve.stopped}. Test again with a higher end_lr, "
            "and with data for all steps."
        )
    steps = curve.every * np.count_nonzero(abs(x - math.log10(reach)) <= 0.5)
    if steps < FEWEST_A_DECADE:
        warnings.append(
            f"The test made {steps} steps in the decade around {reach:.1e}, where the loss falls: "
            f"too few to trust max_lr. Raise num_steps {math.ceil(FEWEST_A_DECADE / steps)} times."
        )
    warnings += _of_the_scale(curve, max_lr)
    return Bounds(max_lr / 10, max_lr, " ".join(warnings) or None, marks)


def trials(curve: Curve) -> Bounds:
    """Reads `max_lr` as the rate of the best trial. `base_lr` is a tenth of it."""
    if not curve.trials:
        raise ValueError(
            "There were no trials. Test again with `trials` above 0, with more data or steps, and "
            "with a function that makes the data where they can be passed through only once."
        )
    tried = dict(curve.trials)
    start, best = tried.pop(0.0), min(tried.values(), default=math.inf)
    if not best < start - GAIN * abs(start):
        raise ValueError(
            f"None of the trials, between rates {min(tried):.1e} and {max(tried):.1e}, lowered the "
            f"loss on data held back clearly: from {start:.4g} to {best:.4g} at best. If the model "
            "learns slowly, raise num_steps. Does it learn at any rate?"
        )
    max_lr = min(tried, key=tried.__getitem__)
    warnings = _of_the_scale(curve, max_lr)
    if max_lr == min(tried):
        warnings.append(
            f"Of {len(tried)} trials the one at the lowest rate was the best, so a lower rate than "
            f"{max_lr:.1e} may be better still. Test again with more `trials`."
        )
    return Bounds(max_lr / 10, max_lr, " ".join(warnings) or None)


def _of_the_scale(curve: Curve, max_lr: float) -> list[str]:
    """Returns a warning if a rate is so low that the inputs are hardly scaled."""
    if curve.default_lr is None or max_lr >= curve.default_lr / 100:
        return []
    return [
        f"max_lr={max_lr:.1e} is less than a hundredth of the optimizer's own default, "
        f"{curve.default_lr:.1e}. Inputs or targets may not be scaled: bring them to a mean of 0 "
        "and a standard deviation of 1, and test again."
    ]


def _before_the_rise(curve: Curve, centred: Centred, start: float) -> Bounds:
    """Returns bounds below the rise of a curve that is flat before it.

    Raises:
        ValueError: It does not rise, or it does so from its beginning on.
    """
    lrs, x, average, noise = centred
    above = average - start
    needed = np.maximum(0.1 * abs(start), CLEAR * noise)
    rise = int(np.argmax(above > needed))  # 0 if there is none.
    halfway = np.searchsorted(x, (x[0] + x[rise]) / 2)
    if rise < FEWEST_POINTS or above[halfway] > needed[rise] / 4:
        raise curve.no_descent(lrs, start, average.min())
    max_lr = lrs[rise] / 3
    if curve.default_lr is not None:
        max_lr = min(max_lr, 10 * curve.default_lr)
    warning = (
        f"The loss never falls beyond its own noise, and begins to rise at {lrs[rise]:.1e}. So "
        f"max_lr={max_lr:.1e} is a rate that trains, and perhaps not the best. The test may be too "
        "short for this model: raise num_steps."
    )
    marks = {"plateau": lrs[halfway], "edge": lrs[rise]}
    return Bounds(max_lr / 10, max_lr, warning, marks)


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
        bounds: The function that reads `base_lr` and `max_lr`, as `Bounds` where it has more to
            say. It raises `ValueError` where the curve holds no answer.
        source: Where the method comes from.
        of: Which curve it reads: `"loss"` or `"accuracy"`.
    """

    bounds: Callable[[Curve], tuple[float, float] | Bounds]
    source: str
    of: str = "loss"


SMITH = "Smith (2017), arXiv:1506.01186, section 3.3"
FASTAI = "max_lr: fastai, callback/schedule.py, `{}`; base_lr: " + SMITH
READINGS = {
    "steepest": Reading(steepest, FASTAI.format("steep")),
    "valley": Reading(valley, FASTAI.format("valley")),
    "minimum": Reading(minimum, FASTAI.format("minimum")),
    "edge": Reading(edge, "our own rule, from no paper; measured by benchmarks/bounds.py"),
    "accuracy": Reading(accuracy, SMITH, of="accuracy"),
    "trials": Reading(trials, "our own second look; measured by benchmarks/bounds.py", of="trials"),
}
DEFAULT = "edge"
SOURCES = {method: reading.source for method, reading in READINGS.items()}

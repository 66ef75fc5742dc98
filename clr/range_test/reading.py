"""Reading bounds off a curve. Numbers only.

To add a reading, write a function from a `Curve` to two bounds, and enter it in `READINGS`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from clr.range_test.curve import FEWEST_POINTS, Centred, Curve, Way

CLEAR = 5  # Times its noise: four are reached once in fifty tests of 300 steps, by chance.
GAIN = 0.02  # Of the loss without training: trials that lower it less tell nothing.
CALM = 1e-4  # Of the descent: a plateau that rises less than that in all has no noise.
FEWEST_A_DECADE = 20  # With fewer steps around the descent, `edge` warns.


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


def steepest(curve: Curve) -> tuple[float, float]:
    """Reads `max_lr` where the loss falls fastest over the rate's logarithm."""
    way = curve.way()
    # Not before the descent, where the average of few batches makes steps of its own.
    lrs, losses = way.lrs[way.begin :], way.values[way.begin :]
    slopes = np.diff(losses) / np.diff(np.log(lrs))
    return _bounds(way, lrs[slopes.argmin()])


def valley(curve: Curve) -> Bounds:
    """Reads `max_lr` halfway along the longest descent.

    A plateau without noise falls all along, by next to nothing. It is not read, because the
    descent would be longer with each step that the test makes at low rates.
    """
    way = curve.way()
    rises = -np.diff(way.made[: way.begin + 1]).clip(max=0).sum()
    begin = way.begin if rises < CALM else 0
    at = begin + _mid_valley(way.values[begin:])
    warning = None
    if at < way.begin:
        warning = (
            f"Halfway along the longest descent is on the plateau, at {way.lrs[at]:.2g}: the loss "
            f"clearly falls from {way.lrs[way.begin]:.2g} on. So max_lr depends on start_lr here. "
            'Take another method, such as "edge".'
        )
    return Bounds(*_bounds(way, way.lrs[at]), warning)


def minimum(curve: Curve) -> tuple[float, float]:
    """Reads `max_lr` as a tenth of the rate at which the loss is lowest."""
    way = curve.way()
    return _bounds(way, way.lrs[-1] / 10)


def accuracy(curve: Curve) -> tuple[float, float]:
    """Reads both bounds off the climb: where a tenth of it is made, and where 95%."""
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
            f"The loss never rises again up to the last rate, {lrs[-1]:.2g}, so max_lr is a "
            f"cautious guess. It ended because: {curve.stopped}. Test again with a higher end_lr, "
            "and with data for all steps."
        )
    steps = curve.every * np.count_nonzero(abs(x - math.log10(reach)) <= 0.5)
    if steps < FEWEST_A_DECADE:
        warnings.append(
            f"The test made {steps} steps in the decade around {reach:.2g}, where the loss falls: "
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
            f"None of the trials, between rates {min(tried):.2g} and {max(tried):.2g}, lowered the "
            f"loss on data held back clearly: from {start:.4g} to {best:.4g} at best. If the model "
            "learns slowly, raise num_steps. Does it learn at any rate?"
        )
    max_lr = min(tried, key=tried.__getitem__)
    warnings = _of_the_scale(curve, max_lr)
    if max_lr == min(tried):
        warnings.append(
            f"Of {len(tried)} trials the one at the lowest rate was the best, so a lower rate than "
            f"{max_lr:.2g} may be better still. Test again with more `trials`."
        )
    return Bounds(max_lr / 10, max_lr, " ".join(warnings) or None)


def _of_the_scale(curve: Curve, max_lr: float) -> list[str]:
    """Returns a warning if a rate is so low that the inputs are hardly scaled."""
    if curve.default_lr is None or max_lr >= curve.default_lr / 100:
        return []
    return [
        f"max_lr={max_lr:.2g} is less than a hundredth of the optimizer's own default, "
        f"{curve.default_lr:.2g}. Inputs or targets may not be scaled: bring them to a mean of 0 "
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
        f"The loss never falls beyond its own noise, and begins to rise at {lrs[rise]:.2g}. So "
        f"max_lr={max_lr:.2g} is a rate that trains, and perhaps not the best. The test may be too "
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

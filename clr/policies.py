"""Cyclical policies: from an iteration's number to its learning rate, and momentum.

Plain arithmetic, no Keras. Each policy's `rate` is the one place where its formula stands: the
callbacks call it with Python numbers, the plots with NumPy arrays, the schedules with tensors.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from clr import checks

MODES = ("triangular", "triangular2", "exp_range")
ANNEALINGS = ("cos", "linear")
SCALE_MODES = ("cycle", "iterations")


@dataclass(frozen=True)
class CyclicPolicy:
    """A learning rate that rises and falls between two bounds (Smith 2015, section 3).

    With p the iteration's place in its cycle and c the cycle's number from 1,

        rate = base_lr + (max_lr - base_lr) * fraction(p) * scale

    where the fraction rises from 0 to 1 in `step_size` iterations and falls back in
    `step_size_down`. The scale is 1 for `"triangular"`, `1 / 2**(c - 1)` for `"triangular2"` (the
    *amplitude* above `base_lr` halves with each cycle) and `gamma**iteration` for `"exp_range"`
    (only the amplitude decays, as in the reference callback; in the paper both bounds do).

    Args:
        base_lr: Lower bound, the rate at the start and end of each cycle.
        max_lr: Upper bound, the rate at the first cycle's turn. At least `base_lr`.
        step_size: Iterations from `base_lr` to `max_lr`. A whole number; Smith (2017,
            section 3.2) advises the iterations of 2 to 10 epochs.
        mode: `"triangular"`, `"triangular2"` or `"exp_range"`. Ignored if `scale_fn` is given.
        gamma: Decay per iteration in mode `"exp_range"`, in (0, 1].
        scale_fn: A function of one number to multiply the amplitude with, in place of `mode`.
        scale_mode: What `scale_fn` is a function of: `"cycle"` (the cycle's number, from 1) or
            `"iterations"` (the iteration's, from 0).
        step_size_down: Iterations from `max_lr` back to `base_lr`. `None` means `step_size`.
        base_momentum: Lower bound of `momentum`, reached at the first cycle's turn, in [0, 1).
        max_momentum: Upper bound of `momentum`, at the start and end of each cycle, in [0, 1).

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad mode, `max_lr < base_lr`, `step_size < 1`, a rate that is not finite, ...
    """

    base_lr: float = 0.001
    max_lr: float = 0.006
    step_size: int = 2000
    mode: str = "triangular"
    gamma: float = 1.0
    scale_fn: Callable[[Any], Any] | None = None
    scale_mode: str = "cycle"
    step_size_down: int | None = None
    base_momentum: float = 0.8
    max_momentum: float = 0.9

    def __post_init__(self) -> None:
        """Checks the arguments and turns them into plain floats and ints."""

        def set_field(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # The way to set a field of a frozen dataclass.

        set_field("base_lr", checks.rate("base_lr", self.base_lr))
        set_field("max_lr", checks.rate("max_lr", self.max_lr))
        checks.at_least("max_lr", self.max_lr, "base_lr", self.base_lr)
        set_field("step_size", checks.count("step_size", self.step_size, of_batches=True))
        if self.step_size_down is not None:
            down = checks.count("step_size_down", self.step_size_down, of_batches=True)
            set_field("step_size_down", down)
        set_field("gamma", checks.decay("gamma", self.gamma))
        checks.choice("scale_mode", self.scale_mode, SCALE_MODES)
        if self.scale_fn is None:
            checks.choice("mode", self.mode, MODES)
        elif not callable(self.scale_fn):
            raise TypeError(
                "`scale_fn` must be a function of one number, or None. "
                f"Received: scale_fn={self.scale_fn!r}"
            )
        _check_momenta(self)

    @property
    def cycle_length(self) -> int:
        """Iterations in one cycle."""
        return self.step_size + (self.step_size_down or self.step_size)

    def rate(self, iteration: Any, xp: Any = np, dtype: str = "float64") -> Any:
        """Returns the rate at an iteration: the formula.

        Args:
            iteration: Whole number from 0, an array or an integer tensor of them.
            xp: The namespace to compute in: `numpy`, or `keras.ops` for tensors.
            dtype: The result's type. The place in the cycle is found in whole numbers before
                anything is rounded to it, so the rate at iteration 10**9 is as right as at 10.
        """
        return self.base_lr + (self.max_lr - self.base_lr) * self._height(iteration, xp, dtype)

    def momentum(self, iteration: Any, xp: Any = np, dtype: str = "float64") -> Any:
        """Returns the momentum at an iteration, high where the rate is low (Smith 2018, section 4).

        Args:
            iteration: As for `rate`.
            xp: As for `rate`.
            dtype: As for `rate`.
        """
        swing = self.max_momentum - self.base_momentum
        return self.max_momentum - swing * self._height(iteration, xp, dtype)

    def cycles_before(self, iteration: int) -> int:
        """Returns how many whole cycles lie before an iteration."""
        return iteration // self.cycle_length

    def _height(self, iteration: Any, xp: Any, dtype: str) -> Any:
        """Returns how far above its lower bound the rate is, as a share of the amplitude."""
        place, up, length, cycle = self._find(iteration, xp)
        rising = place <= up
        fraction = xp.array(xp.where(rising, place, length - place), dtype=dtype) / xp.array(
            xp.where(rising, up, length - up), dtype=dtype
        )
        return fraction * self._scale(iteration, cycle, xp, dtype)

    def _find(self, iteration: Any, xp: Any) -> tuple[Any, Any, Any, Any]:
        """Returns the place in the cycle, the cycle's rise and length, and its number from 1."""
        length = self.cycle_length
        return iteration % length, self.step_size, length, iteration // length + 1

    def _scale(self, iteration: Any, cycle: Any, xp: Any, dtype: str) -> Any:
        if self.scale_fn is not None:
            argument = xp.array(cycle if self.scale_mode == "cycle" else iteration, dtype=dtype)
            if xp is np:
                return _each(self.scale_fn, argument)
            return xp.cast(self.scale_fn(argument), dtype)
        if self.mode == "triangular2":
            return xp.power(0.5, xp.array(cycle - 1, dtype=dtype))
        if self.mode == "exp_range":
            # gamma is so near to 1 that in single precision its logarithm would be noise.
            return xp.exp(xp.array(iteration, dtype=dtype) * math.log(self.gamma))
        return 1.0


@dataclass(frozen=True)
class WholeCyclesPolicy(CyclicPolicy):
    """A `CyclicPolicy` of so many whole cycles over so many iterations, whether they divide or not.

    The lengths of two cycles differ by at most one iteration: the longer cycles come first. In a
    cycle of odd length, the fall takes one iteration more than the rise. Each cycle starts at
    `base_lr` and reaches `max_lr`. Short cycles follow after `total_steps`. The other arguments are
    those of `CyclicPolicy`, without `step_size` and `step_size_down`.

    Args:
        cycles: The number of cycles, at least 1. Defaults to `1`.
        total_steps: Iterations of all cycles together, at least two a cycle. Defaults to `2`.

    Attributes:
        step_size: Iterations in which the rate rises, in a short cycle.
        step_size_down: Iterations in which the rate falls, in a short cycle.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument, or fewer than two iterations a cycle.
    """

    step_size: int = field(init=False, default=1)
    step_size_down: int | None = field(init=False, default=1)
    cycles: int = 1
    total_steps: int = 2

    @classmethod
    def like(cls, policy: CyclicPolicy, cycles: int, total_steps: int) -> "WholeCyclesPolicy":
        """Returns whole cycles with another policy's bounds, mode and momenta.

        Args:
            policy: The other policy. Its step sizes are not used.
            cycles: The number of cycles.
            total_steps: Iterations of all cycles together.
        """
        taken = {f.name: getattr(policy, f.name) for f in fields(CyclicPolicy)}
        del taken["step_size"], taken["step_size_down"]
        return cls(**taken, cycles=cycles, total_steps=total_steps)

    def __post_init__(self) -> None:
        """Checks the arguments and finds the short cycle's step sizes."""
        cycles = checks.count("cycles", self.cycles)
        total = checks.count("total_steps", self.total_steps)
        if total < 2 * cycles:
            raise ValueError(
                "`cycles` must leave each cycle two iterations or more: it can be at most half of "
                f"the training's {total}. Received: cycles={cycles!r}, total_steps={total!r}"
            )
        length = total // cycles
        found = (cycles, total, length // 2, length - length // 2)
        names = ("cycles", "total_steps", "step_size", "step_size_down")
        for name, value in zip(names, found, strict=True):
            object.__setattr__(self, name, value)
        super().__post_init__()

    @property
    def cycle_length(self) -> int:
        """Iterations in a short cycle, such as the last one."""
        return self.total_steps // self.cycles

    def cycles_before(self, iteration: int) -> int:
        """Returns how many whole cycles lie before an iteration."""
        return int(self._find(iteration, np)[3]) - 1

    def _find(self, iteration: Any, xp: Any) -> tuple[Any, Any, Any, Any]:
        short, number_of_long = divmod(self.total_steps, self.cycles)
        end_of_long = number_of_long * (short + 1)
        is_long = iteration < end_of_long
        zero = 0 * iteration  # Of the iteration's type: TensorFlow mixes no two types of integer.
        length = xp.where(is_long, zero + short + 1, zero + short)
        past = xp.where(is_long, iteration, iteration - end_of_long)
        cycle = past // length + xp.where(is_long, zero, zero + number_of_long) + 1
        return past % length, length // 2, length, cycle


class Phase(NamedTuple):
    """A part of one cycle.

    Attributes:
        end: Its last iteration, a fraction perhaps.
        rates: The first and the last rate.
        momenta: The first and the last momentum.
    """

    end: float
    rates: tuple[float, float]
    momenta: tuple[float, float]


@dataclass(frozen=True)
class OneCyclePolicy:
    """A learning rate that rises once and then falls far below its start (Smith and Topin 2017).

    Two phases by default, as fastai has them: up from `max_lr / div_factor` to `max_lr`, and down
    to the annihilated rate, `max_lr / (div_factor * final_div_factor)`. With `three_phase=True`, as
    in the paper: up, down to the start in as many iterations, and then the annihilation. The
    momentum goes the opposite way, and rests at `max_momentum` in a third phase. After
    `total_steps` rate and momentum stay what they were at the last.

    Rates and momenta are those of `torch.optim.lr_scheduler.OneCycleLR`, and so are the names.

    Args:
        max_lr: The rate at the turn. Above 0.
        total_steps: Iterations from the first to the last: epochs times iterations per epoch.
        pct_start: Share of them in which the rate rises, in (0, 1); at most a half in three phases.
            Defaults to `0.3`.
        anneal_strategy: `"cos"` (default), half a cosine wave in each phase, or `"linear"`.
        div_factor: What `max_lr` is divided by for the first rate. Defaults to `25.0`.
        final_div_factor: What the first rate is divided by for the last. Defaults to `1e4`.
        three_phase: Whether the fall pauses at the first rate. Defaults to `False`.
        base_momentum: The momentum at the turn, in [0, 1). Defaults to `0.85`.
        max_momentum: The momentum at the start and the end, in [0, 1). Defaults to `0.95`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad `anneal_strategy`, a factor below 1, a phase without an iteration, ...

    Sources: Smith and Topin, "Super-Convergence" (arXiv:1708.07120), section 2; Smith, "A
    disciplined approach to neural network hyper-parameters" (arXiv:1803.09820), section 4.
    """

    max_lr: float
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        """Checks the arguments and turns them into plain floats and ints."""

        def set_field(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        set_field("max_lr", checks.above("max_lr", self.max_lr))
        set_field(
            "total_steps", checks.count("total_steps", self.total_steps, minimum=2, of_batches=True)
        )
        set_field("pct_start", checks.rate("pct_start", self.pct_start))
        checks.choice("anneal_strategy", self.anneal_strategy, ANNEALINGS)
        for name in ("div_factor", "final_div_factor"):
            set_field(name, checks.rate(name, getattr(self, name), minimum=1.0))
        checks.flag("three_phase", self.three_phase)
        _check_momenta(self)
        turns = [0.0, *(phase.end for phase in self._phases())]
        if any(later <= sooner for sooner, later in itertools.pairwise(turns)):
            raise ValueError(
                "`pct_start` must leave each phase an iteration: in (0, 1), at most 0.5 with "
                "three_phase, and more than one iteration of total_steps. "
                f"Received: pct_start={self.pct_start!r}, total_steps={self.total_steps!r}"
            )

    @property
    def cycle_length(self) -> int:
        """Iterations in the one cycle."""
        return self.total_steps

    def cycles_before(self, iteration: int) -> int:
        """Returns how many times the cycle's length lies before an iteration."""
        return iteration // self.total_steps

    def rate(self, iteration: Any, xp: Any = np, dtype: str = "float64") -> Any:
        """Returns the rate at an iteration: the formula.

        Args:
            iteration: Whole number from 0, an array or an integer tensor of them.
            xp: The namespace to compute in: `numpy`, or `keras.ops` for tensors.
            dtype: The result's type.
        """
        return self._along([phase.rates for phase in self._phases()], iteration, xp, dtype)

    def momentum(self, iteration: Any, xp: Any = np, dtype: str = "float64") -> Any:
        """Returns the momentum at an iteration, the lower the higher the rate.

        Args:
            iteration: As for `rate`.
            xp: As for `rate`.
            dtype: As for `rate`.
        """
        return self._along([phase.momenta for phase in self._phases()], iteration, xp, dtype)

    def _phases(self) -> list[Phase]:
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        low, high = self.base_momentum, self.max_momentum
        rise, end = self.pct_start * self.total_steps, float(self.total_steps - 1)
        up = Phase(rise - 1, (first, self.max_lr), (high, low))
        if not self.three_phase:
            return [up, Phase(end, (self.max_lr, last), (low, high))]
        down = Phase(2 * rise - 2, (self.max_lr, first), (low, high))
        return [up, down, Phase(end, (first, last), (high, high))]

    def _along(self, pairs: list[tuple[float, float]], iteration: Any, xp: Any, dtype: str) -> Any:
        place = xp.array(xp.minimum(iteration, self.total_steps - 1), dtype=dtype)
        begin, value = 0.0, None
        for phase, (first, last) in zip(self._phases(), pairs, strict=True):
            share = (place - begin) / (phase.end - begin)
            if self.anneal_strategy == "cos":
                here = last + (first - last) / 2 * (1 + xp.cos(math.pi * share))
            else:
                here = first + (last - first) * share
            value = here if value is None else xp.where(place <= begin, value, here)
            begin = phase.end
        return value


def _check_momenta(policy: CyclicPolicy | OneCyclePolicy) -> None:
    for name in ("base_momentum", "max_momentum"):
        object.__setattr__(policy, name, checks.share(name, getattr(policy, name)))
    checks.at_least("max_momentum", policy.max_momentum, "base_momentum", policy.base_momentum)


def _each(scale_fn: Callable[[Any], Any], argument: np.ndarray) -> np.ndarray:
    """Applies `scale_fn` to one number at a time: it may be written with `math`, or branch."""

    def finite(x: float) -> float:
        value = float(scale_fn(x))
        if not math.isfinite(value):
            raise ValueError(
                f"`scale_fn` must return a finite number. Received: scale_fn({x!r})={value!r}"
            )
        return value

    return np.vectorize(finite, otypes=[float])(argument)

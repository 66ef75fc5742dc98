"""Cyclical policies: from an iteration's number to its learning rate.

Plain arithmetic with no Keras in it. `CyclicPolicy.rate` is the one place where the formula stands;
the callback calls it with Python numbers, the plots with NumPy arrays, the schedule with tensors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MODES = ("triangular", "triangular2", "exp_range")
SCALE_MODES = ("cycle", "iterations")
NUMBER = (int, float, np.integer, np.floating)


def checked_rate(name: str, value: Any, *, minimum: float = 0.0) -> float:
    """Returns `value` as a float.

    Args:
        name: The argument's name, for the error.
        value: What the caller passed.
        minimum: The smallest value that is right.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not finite, or below `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}")
    if not math.isfinite(value) or value < minimum:
        raise ValueError(
            f"`{name}` must be finite and at least {minimum:g}. Received: {name}={value!r}"
        )
    return float(value)


def checked_share(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1), such as a momentum.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not in [0, 1).
    """
    if checked_rate(name, value) >= 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}")
    return float(value)


def checked_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Returns `value` as an int; integral floats such as the reference's `2000.` are accepted.

    Args:
        name: The argument's name, for the error.
        value: What the caller passed.
        minimum: The smallest value that is right.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not whole, not finite, or below `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        raise TypeError(f"`{name}` must be a whole number. Received: {name}={value!r}")
    if not math.isfinite(value) or value != int(value) or value < minimum:
        raise ValueError(
            f"`{name}` must be a whole number, at least {minimum}. Received: {name}={value!r}"
        )
    return int(value)


def checked_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `choices`.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}"
        )
    return value


@dataclass(frozen=True)
class CyclicPolicy:
    """A learning rate that swings between two bounds (Smith 2015, section 3).

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

    def __post_init__(self) -> None:
        """Checks the arguments and turns them into plain floats and ints."""

        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # The way to set a field of a frozen dataclass.

        put("base_lr", checked_rate("base_lr", self.base_lr))
        put("max_lr", checked_rate("max_lr", self.max_lr))
        if self.max_lr < self.base_lr:
            raise ValueError(
                "`max_lr` must be at least `base_lr`. "
                f"Received: max_lr={self.max_lr!r}, base_lr={self.base_lr!r}"
            )
        put("step_size", checked_count("step_size", self.step_size))
        if self.step_size_down is not None:
            put("step_size_down", checked_count("step_size_down", self.step_size_down))
        put("gamma", checked_rate("gamma", self.gamma))
        if not 0 < self.gamma <= 1:
            raise ValueError(f"`gamma` must be in (0, 1]. Received: gamma={self.gamma!r}")
        checked_choice("scale_mode", self.scale_mode, SCALE_MODES)
        if self.scale_fn is None:
            checked_choice("mode", self.mode, MODES)
        elif not callable(self.scale_fn):
            raise TypeError(
                "`scale_fn` must be a function of one number, or None. "
                f"Received: scale_fn={self.scale_fn!r}"
            )

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
        up, length = self.step_size, self.cycle_length
        place, cycle = iteration % length, iteration // length + 1
        rising = place <= up
        fraction = xp.array(xp.where(rising, place, length - place), dtype=dtype) / xp.array(
            xp.where(rising, up, length - up), dtype=dtype
        )
        scale = self._scale(iteration, cycle, xp, dtype)
        return self.base_lr + (self.max_lr - self.base_lr) * fraction * scale

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

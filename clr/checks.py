"""Checks of arguments: a value in its plain type is returned, or an error echoes it."""

import math
import os
from typing import Any

import numpy as np

NUMBER = (int, float, np.integer, np.floating)


def rate(name: str, value: Any, *, minimum: float = 0.0) -> float:
    """Returns `value` as a float.

    Args:
        name: The argument's name, for the error.
        value: What the caller passed.
        minimum: The smallest value that is right.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not finite, or below `minimum`.
    """
    _number(name, value, "a number")
    if not math.isfinite(value) or value < minimum:
        raise ValueError(
            f"`{name}` must be finite and at least {minimum:g}. Received: {name}={value!r}"
        )
    return float(value)


def above(name: str, value: Any, *, limit: float = 0.0) -> float:
    """Returns `value` as a float above `limit`.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not finite, or not above `limit`.
    """
    checked = rate(name, value, minimum=limit)
    if checked == limit:
        raise ValueError(f"`{name}` must be above {limit:g}. Received: {name}={value!r}")
    return checked


def share(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1), such as a momentum.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not in [0, 1).
    """
    checked = rate(name, value)
    if checked >= 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}")
    return checked


def decay(name: str, value: Any) -> float:
    """Returns `value` as a float in (0, 1], such as what a decaying rate is multiplied with.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not in (0, 1].
    """
    checked = rate(name, value)
    if not 0 < checked <= 1:
        raise ValueError(f"`{name}` must be in (0, 1]. Received: {name}={value!r}")
    return checked


def count(
    name: str,
    value: Any,
    *,
    minimum: int = 1,
    maximum: float = math.inf,
    of_batches: bool = False,
) -> int:
    """Returns `value` as an int; integral floats such as the reference's `2000.` are accepted.

    Args:
        name: The argument's name, for the error.
        value: What the caller passed.
        minimum: The smallest value that is right.
        maximum: The largest value that is right.
        of_batches: Whether batches are counted. Then the error says how to count those of epochs.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is not whole, not finite, below `minimum` or above `maximum`.
    """
    _number(name, value, "a whole number")
    if not math.isfinite(value) or value != int(value) or not minimum <= value <= maximum:
        remedy = ""
        if minimum < value < maximum:  # Then it is a fraction.
            remedy = f", such as {math.floor(value)} or {math.ceil(value)}"
            if of_batches:
                remedy += (
                    ". An epoch has math.ceil(n / batch_size) batches, because Keras trains on the "
                    f"partial last one too: for 4 epochs {name}=4 * math.ceil(n / batch_size)"
                )
        most = f" and at most {maximum:g}" if maximum < math.inf else ""
        raise ValueError(
            f"`{name}` must be a whole number, at least {minimum}{most}{remedy}. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `choices`.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}"
        )
    return value


def flag(name: str, value: Any) -> bool:
    """Returns `value` if it is a bool.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be a bool. Received: {name}={value!r}")
    return value


def path(name: str, value: Any) -> Any:
    """Returns `value` if it is a path, as a string or as a `Path`, or `None` for no path.

    Raises:
        TypeError: It is none of these.
    """
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"`{name}` must be a path or None. Received: {name}={value!r}")
    return value


def at_least(name: str, value: float, lower_name: str, lower: float) -> None:
    """Checks an upper bound against the lower one.

    Args:
        name: The upper bound's name, for the error.
        value: The upper bound.
        lower_name: The lower bound's name.
        lower: The lower bound.

    Raises:
        ValueError: The upper bound is below the lower one.
    """
    if value < lower:
        raise ValueError(
            f"`{name}` must be at least `{lower_name}`. "
            f"Received: {name}={value!r}, {lower_name}={lower!r}"
        )


def _number(name: str, value: Any, kind: str) -> None:
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        raise TypeError(f"`{name}` must be {kind}. Received: {name}={value!r}")

"""A model's rate, to read and to set: of its one optimizer, or of several in proportion."""

import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from clr import checks, optimizers


class RatesAhead(NamedTuple):
    """The rates of the batches to come, as numbers and as what is set."""

    batches: range = range(0)
    rates: Sequence[float] = ()
    tensors: Sequence[Any] = ()


class OneRate:
    """The rate of a model's one optimizer."""

    def read(self, model: keras.Model) -> float:
        """Returns the rate in force, read back from the device."""
        return optimizers.rate(model.optimizer)

    def tensors(self, model: keras.Model, values: Sequence[float] | np.ndarray) -> list[Any]:
        """Returns numbers as what `set` takes: scalar tensors of the rate's type.

        Converting many at a time takes a fraction of the time of one by one.
        """
        return _as_tensors(model.optimizer, values)

    def set(self, model: keras.Model, tensor: Any) -> None:
        """Sets the rate, as cheaply as the backend can.

        Through the model, each time: on JAX a rate set on a kept optimizer is ignored.
        """
        optimizers.assign(model.optimizer.learning_rate, tensor)

    def is_at(self, model: keras.Model, value: float) -> bool:
        """Tells whether the rate is this one, rounded as on its way into the optimizer."""
        return _is_at(model.optimizer, value)

    def told(self, model: keras.Model) -> str:
        """Returns the rate in force for an error, or the rates."""
        found = [optimizers.rate(part) for part in optimizers.parts(model.optimizer)]
        return " and ".join(f"{rate:g}" for rate in found)


class RatesTogether(OneRate):
    """The rates of a MultiOptimizer's optimizers, each in proportion to its own.

    The rate of all is that of the optimizer with the highest. The others keep their ratio to it.

    Args:
        model: A compiled model whose MultiOptimizer has its variables.

    Raises:
        ValueError: No optimizer has a rate above 0.
    """

    def __init__(self, model: keras.Model):
        parts = optimizers.parts(model.optimizer)
        rates = [checks.rate("learning_rate", optimizers.rate(part)) for part in parts]
        highest = max(rates, default=0.0)
        if not highest:
            raise ValueError(
                "The optimizers of a MultiOptimizer move in proportion to their rates, so that one "
                f"rate at least must be above 0. Received: learning_rate={rates}"
            )
        self._first = rates.index(highest)
        self.shares = [rate / highest for rate in rates]

    def read(self, model: keras.Model) -> float:
        """Returns the highest rate in force."""
        return optimizers.rate(optimizers.parts(model.optimizer)[self._first])

    def tensors(self, model: keras.Model, values: Sequence[float] | np.ndarray) -> list[Any]:
        """Returns values of the highest rate as what `set` takes: a tensor for each optimizer."""
        parts = zip(optimizers.parts(model.optimizer), self.shares, strict=True)
        return list(zip(*(_as_tensors(o, np.multiply(values, s)) for o, s in parts), strict=True))

    def set(self, model: keras.Model, tensor: Any) -> None:
        """Sets all rates."""
        for part, own in zip(optimizers.parts(model.optimizer), tensor, strict=True):
            optimizers.assign(part.learning_rate, own)

    def is_at(self, model: keras.Model, value: float) -> bool:
        """Tells whether the highest rate is this one, and each other its share of it."""
        parts = zip(optimizers.parts(model.optimizer), self.shares, strict=True)
        return all(_is_at(part, value * share) for part, share in parts)


def of(model: keras.Model, needed_by: str, remedy: str) -> OneRate:
    """Returns the rate of a model, or the rates of its several optimizers, to be set.

    Where a MultiOptimizer has no variables yet, it gets them.

    Args:
        model: A compiled model.
        needed_by: Whose demand it is, for an error: a name and what it wants.
        remedy: What to do instead of a schedule, for an error.

    Raises:
        ValueError: A rate can't be set, or it is not known yet which optimizers there are.

    Warns:
        UserWarning: A pattern of an `OptimizerMap` fits none of the model's variables.
    """
    optimizers.require_fixed_rate(getattr(model, "optimizer", None), needed_by, remedy)
    if not optimizers.is_several(model.optimizer):
        return OneRate()
    if not model.optimizer.built:
        if not model.built:
            raise ValueError(
                f"{needed_by} whose variables are known, to see which of a MultiOptimizer's "
                "optimizers train. Build the model first: model.build(input_shape), or call it on "
                f"a batch. Received: model={model.name!r}, which is not built"
            )
        model.optimizer.build(model.trainable_variables)
        optimizers.require_fixed_rate(model.optimizer, needed_by, remedy)
    _require_same_accumulation(model.optimizer, needed_by)
    _warn_of_idle_patterns(model)
    return RatesTogether(model)


def _require_same_accumulation(optimizer: Any, needed_by: str) -> None:
    """Raises an error if a batch is an update for some of the optimizers and not for others."""
    found = [part.gradient_accumulation_steps for part in optimizers.parts(optimizer)]
    if len(set(found)) > 1:
        raise ValueError(
            f"{needed_by} that makes an update every so many batches, so that a MultiOptimizer's "
            "optimizers must accumulate gradients over the same number. "
            f"Received: gradient_accumulation_steps={found}"
        )


def _warn_of_idle_patterns(model: keras.Model) -> None:
    """Draws a warning of a pattern that fits no variable: Keras falls back to the default."""
    chosen = optimizers.inner(model.optimizer)._optimizer_map
    if not isinstance(chosen, keras.optimizers.OptimizerMap):
        return
    paths = [variable.path for variable in model.weights]
    for pattern in chosen:
        if pattern not in paths and not any(re.fullmatch(pattern, path) for path in paths):
            warnings.warn(
                f"The pattern {pattern!r} of the model's OptimizerMap fits the path of no "
                "variable, so that its optimizer trains nothing. The paths begin with the names "
                f"of model or layer, such as {paths[0]!r}: try {'.*' + pattern!r}.",
                stacklevel=2,
            )


def _as_tensors(optimizer: Any, values: Sequence[float] | np.ndarray) -> list[Any]:
    dtype = optimizer.learning_rate.dtype
    return list(keras.ops.unstack(keras.ops.convert_to_tensor(values, dtype)))


def _is_at(optimizer: Any, value: float) -> bool:
    dtype = optimizer.learning_rate.dtype
    return optimizers.rate(optimizer) == float(keras.ops.convert_to_tensor(value, dtype))

"""What is asked of a Keras optimizer: its rate, its count of updates, the optimizer inside."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras

MULTI = getattr(keras.optimizers, "MultiOptimizer", ())  # Since Keras 3.15.
AHEAD = 256  # Rates converted together: one by one each takes twice as long.


def inner(optimizer: Any) -> Any:
    """Returns the optimizer that a LossScaleOptimizer wraps, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def is_several(optimizer: Any) -> bool:
    """Tells whether it is a MultiOptimizer: several, each for variables of its own."""
    return isinstance(inner(optimizer), MULTI)


def parts(optimizer: Any) -> list[Any]:
    """Returns the optimizers that make the updates: the one, or those in a MultiOptimizer.

    Those without variables, which train nothing, are left out once that is known.
    """
    one = inner(optimizer)
    if not isinstance(one, MULTI):
        return [one]
    return [part for part in one.optimizers if part.built or not one.built]


def require_fixed_rate(optimizer: Any, needed_by: str, remedy: str) -> None:
    """Checks that the optimizer's rate can be set, or each rate of a MultiOptimizer's.

    Args:
        optimizer: A compiled model's optimizer, or `None`.
        needed_by: Whose demand it is, for the error: a name and what it wants.
        remedy: What to do instead, for the error.

    Raises:
        ValueError: The rate comes from a schedule, or there is no optimizer.
    """
    several = is_several(optimizer)
    for one in parts(optimizer) if several else [optimizer]:
        if not isinstance(getattr(one, "learning_rate", None), keras.Variable):
            raise ValueError(
                f"{needed_by} with a fixed learning_rate, such as SGD(learning_rate=0.01), so that "
                f"it can set the rate. Received: optimizer={one!r}, "
                f"{'one of a MultiOptimizer, ' if several else ''}built on a schedule or none. "
                f"{remedy}"
            )


def require_one(model: keras.Model, needed_by: str) -> None:
    """Checks that `model.optimizer` is the one optimizer that the model trains with.

    A model whose `train_step` has optimizers of its own also gets one from `compile`, unused.

    Args:
        model: A compiled model.
        needed_by: Whose demand it is, for the error: a name.

    Raises:
        ValueError: The model has further optimizers, and a `train_step` that may use them.
    """
    if not has_own_step(model):
        return
    known = (model.optimizer, inner(model.optimizer), *parts(model.optimizer))
    others = [
        name
        for name, value in vars(model).items()
        if not name.startswith("_")
        and any(
            isinstance(part, keras.optimizers.Optimizer) and not any(part is k for k in known)
            for part in _parts(value)
        )
    ]
    if others:
        names = ", ".join(f"{type(model).__name__}.{name}" for name in others)
        raise ValueError(
            f"`{needed_by}` sets the rate of `model.optimizer` alone, and this model has more "
            f"optimizers than that. Received: {names}. Give each a schedule in its place: "
            "Adam(CyclicalLearningRate(base_lr, max_lr, step_size))."
        )


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def has_own_step(model: keras.Model) -> bool:
    """Tells whether the model trains by a `train_step` of its own, in place of Keras's."""
    return not is_keras(model.train_step)


def is_keras(function: Any) -> bool:
    """Tells whether a function or a class is Keras's own."""
    return getattr(function, "__module__", "").startswith("keras.")


def schedule(optimizer: Any) -> Any:
    """Returns the schedule that an optimizer's rate comes from, or `None`."""
    rate = inner(optimizer)._learning_rate
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def rate(optimizer: Any) -> float:
    """Returns the rate in force, read back from the device."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def default_rate(optimizer: Any) -> float | None:
    """Returns the rate that an optimizer of this kind has if none is named, where it has one.

    Of a MultiOptimizer's it is that of the optimizer with the highest rate.
    """
    leading = max(parts(optimizer), key=rate) if is_several(optimizer) else inner(optimizer)
    arguments = inspect.signature(type(leading)).parameters
    default = getattr(arguments.get("learning_rate"), "default", None)
    return default if isinstance(default, float) else None


def assign(variable: keras.Variable, value: Any) -> None:
    """Puts a value into a variable, as cheaply as the backend can."""
    if keras.backend.backend() == "tensorflow":
        # Keras's own `assign` also makes a tensor to read the new value from, which no one does.
        variable.value.assign(value, read_value=False)
    else:
        variable.assign(value)


def updates(optimizer: Any) -> int:
    """Returns how many updates the optimizer has made."""
    if is_several(optimizer):  # Its own count is of batches, in either case.
        return batches(optimizer) // batches_an_update(optimizer)
    return _whole(optimizer.iterations)


def batches(optimizer: Any) -> int:
    """Returns how many batches the optimizer has seen: several an update where it accumulates."""
    # The public `iterations` drops the remainder under gradient accumulation.
    return _whole(inner(optimizer)._iterations)


def set_batches(optimizer: Any, value: int) -> None:
    """Sets how many batches the optimizer has seen."""
    inner(optimizer)._iterations.assign(value)
    if is_several(optimizer):  # Those inside count for themselves.
        for part in parts(optimizer):
            part._iterations.assign(value)


def scales_loss(optimizer: Any) -> bool:
    """Tells whether the optimizer scales the loss, and may skip updates for it."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def loss_scale(optimizer: Any) -> float | None:
    """Returns what the loss is multiplied by in half precision, or `None` if it is not."""
    if not scales_loss(optimizer):
        return None
    if not optimizer.built:
        return float(optimizer.initial_scale)
    return float(keras.ops.convert_to_numpy(optimizer.dynamic_scale))


def batches_an_update(optimizer: Any) -> int:
    """Returns over how many batches the optimizer accumulates gradients: 1 if it does not."""
    return max((part.gradient_accumulation_steps or 1 for part in parts(optimizer)), default=1)


def _whole(variable: Any) -> int:
    return int(keras.ops.convert_to_numpy(variable))  # A mirrored one has no `int` of its own.

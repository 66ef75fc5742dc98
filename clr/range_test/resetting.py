"""Setting the rate and resetting the metrics before every batch, cheaply."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from clr import optimizers, rates

NEEDS = (
    "`model` must have an optimizer",
    "Compile with a fixed rate, test, and compile anew with the schedule.",
)


def setter(model: keras.Model, values: Sequence[float]) -> Callable[[keras.Model, int], None]:
    """Returns a function that sets the rate of a step, counted from 0.

    A step may come twice: where data of unknown length end, one begins that is not made.

    Args:
        model: A compiled model whose optimizer has a fixed rate, and its variables.
        values: The rates, one a step.
    """
    rate, write = rates.of(model, *NEEDS), None
    if keras.backend.backend() == "tensorflow" and not optimizers.is_several(model.optimizer):
        write = _writer(model.optimizer.learning_rate)
    steps, tensors = range(0), list[Any]()

    def set_rate(model: keras.Model, step: int) -> None:
        nonlocal steps, tensors
        if step not in steps:
            steps = range(step, min(step + optimizers.AHEAD, len(values)))
            tensors = rate.tensors(model, values[step : steps.stop])
        tensor = tensors[step - steps.start]
        if write is None:
            rate.set(model, tensor)
        else:
            write(tensor)

    return set_rate


def resetter(model: keras.Model) -> Callable[[keras.Model], None]:
    """Returns a function that does what `Model.reset_metrics` does, in less time if possible.

    Keras makes a tensor for each of the metrics' variables, and one more to read it from. With
    TensorFlow, and metrics that Keras resets, the function writes the same tensors each time.

    Args:
        model: A compiled model whose metrics have their variables.
    """
    by_keras = optimizers.is_keras(type(model).reset_metrics) and all(
        map(_keras_resets, model.metrics)
    )
    # JAX may free a tensor that was written; and a reset of your own may do more than write one.
    if keras.backend.backend() != "tensorflow" or not by_keras:
        return lambda model: model.reset_metrics()
    model.reset_metrics()
    begin = [(_writer(v), keras.ops.copy(v)) for v in model.metrics_variables]

    def reset(model: keras.Model) -> None:
        for write, tensor in begin:
            write(tensor)

    return reset


def _writer(variable: keras.Variable) -> Callable[[Any], Any]:
    """Returns a function that writes a tensor of the variable's own shape and type, unchecked."""
    import tensorflow as tf

    if hasattr(variable.value, "values"):  # On several devices at once.
        return partial(optimizers.assign, variable)
    write, handle = tf.raw_ops.AssignVariableOp, variable.value.handle
    return lambda tensor: write(resource=handle, value=tensor)


def _keras_resets(metric: Any) -> bool:
    """Tells whether Keras's own code resets a metric, and those inside it."""
    inside = getattr(metric, "metrics", None) or []
    return optimizers.is_keras(type(metric).reset_state) and all(map(_keras_resets, inside))

"""A model with all its variables, at their initial values, before anything is trained."""

import warnings
from contextlib import nullcontext
from typing import Any

import keras

from clr import optimizers
from clr.range_test.undoing import model_kept


def is_built(model: keras.Model) -> bool:
    """Tells whether model, optimizer and metrics have all their variables."""
    # Keras never takes a model without a `call` for built. Once trained, its optimizer is.
    parts = [model.optimizer, *model.metrics, *([] if _is_traced(model) else [model])]
    return all(getattr(part, "built", True) for part in parts)


def build(model: keras.Model, batch: Any, data: Any, class_weight: Any = None) -> None:
    """Creates what variables model, optimizer and metrics lack, as `fit` would.

    Args:
        model: A compiled model.
        batch: A batch of the data.
        data: `x`, `y` and `sample_weight` of a batch, or a data set that may be begun.
        class_weight: As in `fit`.

    Raises:
        ValueError: They can't be created without a training step.
    """
    if _is_traced(model):
        _trace(model, data, class_weight)
        return

    def symbol(array: Any) -> keras.KerasTensor:
        dtype = keras.backend.standardize_dtype(array.dtype)
        return keras.KerasTensor((None, *array.shape[1:]), dtype)

    # Under tf.distribute variables must be made in the model's own scope.
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else nullcontext():
        # Private, but `fit`'s own way: on some backends it moves the seeds on, and so must this.
        model._symbolic_build(
            data_batch=keras.tree.map_structure(symbol, batch, none_is_leaf=False)
        )


def _is_traced(model: keras.Model) -> bool:
    """Tells whether `fit` creates the variables as it traces the model's own `train_step`.

    On other backends `fit` calls the model, and can't train one that can't be called.
    """
    return optimizers.has_own_step(model) and keras.backend.backend() == "tensorflow"


def _trace(model: keras.Model, data: Any, class_weight: Any) -> None:
    """Has `fit` trace the first step, which creates the variables, and not make it."""
    import tensorflow as tf

    x, y, sample_weight = data
    eager = model.run_eagerly
    with model_kept(model, building=True), warnings.catch_warnings(action="ignore"):
        model.run_eagerly = False
        model.make_train_function(force=True)
        function = tf.function(model.train_function)

        def trace(iterator: Any) -> dict:
            function.get_concrete_function(iterator)
            model.stop_training = True
            return {}

        model.train_function = trace
        try:
            model.fit(x, y, sample_weight=sample_weight, class_weight=class_weight, verbose=0)
        except Exception as error:
            if not eager:
                raise  # As `fit` would.
            raise ValueError(
                "The model's variables can't be created without a training step, because its "
                f"`train_step` only runs eagerly ({type(error).__name__} as it was traced). Train "
                "it on a batch first: model.fit(x, y, steps_per_epoch=1)."
            ) from error
        finally:
            model.run_eagerly = eager

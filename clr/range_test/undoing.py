"""Putting back what a range test changed: a model, and the random states."""

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np


@contextmanager
def model_kept(model: keras.Model, *, building: bool = False) -> Iterator[Callable[[], None]]:
    """Puts a model, its optimizer, metrics and compiled settings back as they were.

    So are numbers, strings and arrays that are attributes of the model or one of its layers.

    Args:
        model: A compiled model.
        building: Whether the model gets its variables meanwhile. Then of the attributes only the
            model's own numbers are put back: others may say that it has them.

    Yields:
        A function that puts the variables back at once.

    Warns:
        UserWarning: Variables came into being meanwhile, which have no value to put back.
    """
    variables = _variables(model)
    values = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    plain = [
        (layer, name, value)
        for layer, name, value in _plain_values(model)
        if not building or (layer is model and type(value) in (int, float))
    ]
    names = ("steps_per_execution", "train_function", "test_function", "stop_training", "history")
    settings = {name: getattr(model, name) for name in names if hasattr(model, name)}
    training = getattr(model, "training", None)  # PyTorch's, which its own layers go by.

    def put_back() -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for layer, name, value in plain:
            if not np.array_equal(vars(layer).get(name), value):
                setattr(layer, name, _copy(value))

    if model.steps_per_execution != 1:
        model.steps_per_execution = 1
        model.train_function = model.test_function = None
    try:
        yield put_back
    finally:
        put_back()
        for name in names:
            if name in settings:
                setattr(model, name, settings[name])
            elif hasattr(model, name):
                delattr(model, name)
        if training is not None:
            model.train(training)
        known = {id(variable) for variable in variables}
        new = [v.name for v in _variables(model) if id(v) not in known]
        if new and not building:
            warnings.warn(
                "The model created variables during the range test, so it is not as it was "
                f"before: {', '.join(new)}. Create them first: call model.fit on a few batches.",
                stacklevel=2,
            )


def _layers(model: keras.Model) -> list[keras.Layer]:
    return list(model._flatten_layers())  # Private, but the public one leaves inner layers out.


def _attributes(layer: keras.Layer) -> list[tuple[str, Any]]:
    """Returns a layer's attributes, but for those that belong to Keras or the backend."""
    return [
        (name, value)
        for name, value in vars(layer).items()
        if not name.startswith("_") and name != "built"
    ]


def _variables(model: keras.Model) -> list[Any]:
    """Returns the variables of model, metrics and optimizer, and those that Keras doesn't track."""
    found = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    for layer in _layers(model):
        for value in keras.tree.flatten([value for _, value in _attributes(layer)]):
            if isinstance(value, (keras.Metric, keras.optimizers.Optimizer)):
                found += value.variables
            elif isinstance(value, keras.Variable) or _is_tf_variable(value):
                found.append(value)
    return list({id(variable): variable for variable in found}.values())


def _is_tf_variable(value: Any) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(value, tensorflow.Variable)


def _plain_values(model: keras.Model) -> list[tuple[keras.Layer, str, Any]]:
    return [
        (layer, name, _copy(value))
        for layer in _layers(model)
        for name, value in _attributes(layer)
        if isinstance(value, (int, float, str, np.ndarray, np.generic))
    ]


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Puts the random states of Python, NumPy, Keras and its backend back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    put_back = [_keep_keras()]
    put_back += [keep() for module, keep in BACKENDS.items() if module in sys.modules]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for restore in put_back:
            restore()


def _keep_keras() -> Callable[[], None]:
    try:
        # Private: there is no public way to look at the generator without creating it.
        from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
    except ImportError as error:
        warnings.warn(
            f"Keras's global seed generator can't be found in Keras {keras.__version__} ({error}), "
            "so the range test can't put it back if the data or a layer draw from it. All else is "
            "put back. If you need the same random numbers afterwards, call "
            "keras.utils.set_random_seed(...) after the test.",
            stacklevel=2,
        )
        return lambda: None
    name = "global_seed_generator"
    generator = get_global_attribute(name)
    seed = generator and np.array(keras.ops.convert_to_numpy(generator.state))

    def put_back() -> None:
        set_global_attribute(name, generator)
        if generator:
            generator.state.assign(seed)

    return put_back


def _keep_tensorflow() -> Callable[[], None]:
    # Private: TensorFlow lets its seeds be set, but not read.
    from tensorflow.python.eager.context import context
    from tensorflow.python.ops import stateful_random_ops

    seeds = getattr(context(), "_rng", None)
    state = seeds and seeds.getstate()
    generator = stateful_random_ops.global_generator
    numbers = generator and generator.state.numpy()

    def put_back() -> None:
        if seeds:
            seeds.setstate(state)
        stateful_random_ops.global_generator = generator
        if generator:
            generator.state.assign(numbers)

    return put_back


def _keep_torch() -> Callable[[], None]:
    import torch

    cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all()

    def put_back() -> None:
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)

    return put_back


# JAX has no random state of its own; TensorFlow's shuffles tf.data under any backend.
BACKENDS = {"tensorflow": _keep_tensorflow, "torch": _keep_torch}

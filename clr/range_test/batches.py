"""The batches of whatever data `fit` takes, and a model built for one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Lock
from types import GeneratorType
from typing import Any

import keras
import numpy as np


def is_arrays(data: Any) -> bool:
    """Tells whether the data are arrays, or a structure of them."""
    return isinstance(data, (dict, list, tuple)) or hasattr(data, "shape")


def one_batch(data: Any, y: Any) -> Any:
    """Returns a batch of data that can be passed through again; of arrays, one example."""
    if is_arrays(data):

        def first(array: Any) -> Any:
            return array[:1] if hasattr(array, "dtype") else np.asarray(array[:1])

        return keras.tree.map_structure(first, (data, y), none_is_leaf=False)
    return data[0] if isinstance(data, keras.utils.PyDataset) else next(iter(data))


def passes(first: Any, rest: Iterator, make: Callable[[], Iterator] | None) -> Iterator:
    """Yields a generator's batches, and then those of each further one that `make` makes."""
    yield first
    yield from rest
    while make is not None:
        batches = make()
        first = next(batches, None)
        if first is None:  # The same one again, say, and used up.
            return
        yield first
        yield from batches


@contextmanager
def ended_after(data: Any) -> Iterator[Any]:
    """Gives the data; a generator ends with the block, for a thread that reads ahead of it too.

    Otherwise that thread would draw random numbers after their state was put back.
    """
    ended, reading = Event(), Lock()

    def guarded() -> Iterator[Any]:
        while True:
            with reading:
                batch = () if ended.is_set() else next(data, ())
            if isinstance(batch, tuple) and not batch:
                return
            yield batch

    try:
        yield guarded() if isinstance(data, GeneratorType) else data
    finally:
        with reading:
            ended.set()


def reshuffles(data: Any) -> bool:
    """Tells whether a `tf.data.Dataset` has a shuffle step that changes from pass to pass."""
    # Private: tf.data has no public way to look at a pipeline. Other data have no such method.
    inputs = getattr(data, "_inputs", None)
    if not callable(inputs):
        return False
    if "Shuffle" in type(data).__name__ and getattr(data, "_reshuffle_each_iteration", True):
        return True
    return any(reshuffles(source) for source in inputs())


def is_built(model: keras.Model) -> bool:
    """Tells whether model, optimizer and metrics have all their variables."""
    parts = [model, model.optimizer, *model.metrics]
    return all(getattr(part, "built", True) for part in parts)


def build(model: keras.Model, batch: Any) -> None:
    """Creates what variables model, optimizer and metrics lack, as `fit` would."""

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

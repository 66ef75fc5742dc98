"""The batches of whatever data `fit` takes, and whether these are as they were afterwards."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock
from types import GeneratorType
from typing import Any

import keras
import numpy as np


def is_arrays(data: Any) -> bool:
    """Tells whether the data are arrays, or a structure of them."""
    return isinstance(data, (dict, list, tuple)) or hasattr(data, "shape")


def one_batch(data: Any, y: Any) -> Any:
    """Returns a batch of data that can be passed through again; of arrays, one example.

    It is `None` where there is none.
    """
    if is_arrays(data):
        return first((data, y), 1)
    return data[0] if isinstance(data, keras.utils.PyDataset) else next(iter(data), None)


def first(arrays: Any, count: int) -> Any:
    """Returns the first examples of a structure of arrays."""

    def cut(array: Any) -> Any:
        return array[:count] if hasattr(array, "dtype") else np.asarray(array[:count])

    return keras.tree.map_structure(cut, arrays, none_is_leaf=False)


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


def is_once(data: Any) -> bool:
    """Tells whether the data can be passed through only once."""
    # `ImageDataGenerator.flow` returns both.
    return isinstance(data, Iterator) and not isinstance(data, keras.utils.PyDataset)


def has_none(data: Any) -> bool:
    """Tells whether there are no data at all, where that can be known beforehand."""
    if data is None:
        return True
    if is_arrays(data):
        arrays = [array for array in keras.tree.flatten(data) if array is not None]
        return not arrays or any(tuple(getattr(array, "shape", ()))[:1] == (0,) for array in arrays)
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches == 0
    if _cardinality(data) is not None:
        return _cardinality(data) == 0
    with suppress(TypeError):  # A length that is not known raises it.
        return len(data) == 0
    return False


def is_endless(data: Any) -> bool:
    """Tells whether a data set is known to have no end."""
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    return _cardinality(data) == -1


def _cardinality(data: Any) -> int | None:
    """Returns the length of a `tf.data.Dataset`: -1 if it is endless, -2 if that is not known."""
    cardinality = getattr(data, "cardinality", None)
    return int(cardinality()) if callable(cardinality) else None


def rewinds(data: Any) -> bool:
    """Tells whether data are known to be as they were after some passes through them.

    Global random states count as put back. What a data set does in `__getitem__` is not known, but
    for random generators of its own.
    """
    if is_arrays(data):
        return True
    if isinstance(data, Iterator):
        return False
    if isinstance(data, keras.utils.PyDataset):
        kind, base = type(data), keras.utils.PyDataset
        return (
            kind.on_epoch_end is base.on_epoch_end
            and getattr(kind, "on_epoch_begin", None) is getattr(base, "on_epoch_begin", None)
            and not any(isinstance(value, OWN_RANDOM) for value in vars(data).values())
        )
    if callable(getattr(data, "_inputs", None)):
        return _pipeline_rewinds(data)
    return _loader_rewinds(data)


OWN_RANDOM = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    keras.random.SeedGenerator,
)


def _pipeline_rewinds(data: Any) -> bool:
    """Tells whether no step of a `tf.data.Dataset` keeps a state from pass to pass."""
    # Private: tf.data has no public way to look at a pipeline.
    name = type(data).__name__
    if "Random" in name or "Generator" in name:
        return False
    if "Shuffle" in name and getattr(data, "_reshuffle_each_iteration", True):
        return False
    # A function in Python, a random operation and a shuffle within have a state.
    for value in vars(data).values():
        definition = getattr(getattr(value, "function", None), "function_def", None)
        if definition is not None and definition.signature.is_stateful:
            return False
    return all(map(_pipeline_rewinds, data._inputs()))


def _loader_rewinds(data: Any) -> bool:
    """Tells whether this is a PyTorch `DataLoader` whose order comes from global states alone."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(data, torch.utils.data.DataLoader):
        return False
    of = torch.utils.data
    sampler = data.sampler
    return (
        type(sampler) in (of.SequentialSampler, of.RandomSampler)
        and getattr(sampler, "generator", None) is None
        and data.generator is None
        and type(data.batch_sampler) is of.BatchSampler
        and not isinstance(data.dataset, of.IterableDataset)
        and not data.persistent_workers
    )

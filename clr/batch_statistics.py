"""`update_batch_normalization`: batch normalisation's statistics, estimated for other weights."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from typing import Any

import keras
import numpy as np

from clr import checks
from clr.range_test import has_none, is_arrays, is_endless, is_once, random_states_kept


def update_batch_normalization(
    model: keras.Model, x: Any = None, batch_size: int = 32, steps: int | None = None
) -> None:
    """Estimates the statistics of batch normalisation from data, for the weights that a model has.

    They become the mean of the batches' means and variances, as a training run sees them: with
    dropout and augmentation. A batch counts by its examples. Nothing else of the model changes, and
    no random state. A batch normalisation that does not train (`trainable=False`, or called with
    `training=False`) keeps its statistics.

    Args:
        model: A model with its variables.
        x: Training data as `fit` takes them; labels are not used. Arrays are put into an order that
            is random, and the same each time. A generator is read once. Only needed if there is a
            batch normalisation that trains.
        batch_size: Examples in a batch of arrays. Defaults to 32.
        steps: How many batches to use. Defaults to all. Needed for a generator, and for data
            without an end.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: Data are needed, and there are none, or they may have no end.

    Warns:
        UserWarning: The data ended before `steps` batches.

    Source: `torch.optim.swa_utils.update_bn`. Its variances have n - 1 below the line, as PyTorch's
    batch normalisation has, and these n, as Keras's.
    """
    batch_size = checks.count("batch_size", batch_size)
    steps = None if steps is None else checks.count("steps", steps)
    recorders = [
        _Recorder(layer)
        # Private, but the public ways leave inner layers out.
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not recorders:
        return
    _check_data(x, steps, len(recorders))
    variables = list(model.variables)
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    count = 0
    try:
        with ExitStack() as stack:
            for context in (random_states_kept(), _no_gradients()):
                stack.enter_context(context)
            for recorder in recorders:
                stack.enter_context(recorder.recording())
            forward = _forward(model)
            for batch in islice(_batches(x, batch_size), steps):
                forward(batch)
                count += 1
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    if not count:
        raise _no_data(x)
    for recorder in recorders:
        recorder.put_mean()
    if steps is not None and count < steps:
        warnings.warn(
            f"The data for batch normalisation's statistics ended after {count} of the "
            f"steps={steps} batches.",
            stacklevel=2,
        )


def _check_data(x: Any, steps: int | None, layers: int) -> None:
    if x is None:
        raise ValueError(
            f"`x` must be training data, because the model has {layers} batch normalisation"
            f"{'s' * (layers > 1)}, whose statistics belong to other weights. Received: x=None"
        )
    if has_none(x):
        raise _no_data(x)
    if steps is None and (is_once(x) or is_endless(x)):
        raise ValueError(
            "`steps` must say how many batches to read of a generator, or of data without an end. "
            f"Received: steps=None, x={x!r}"
        )


def _no_data(x: Any) -> ValueError:
    return ValueError(f"`x` must have an example at least. Received: x={x!r}, which is empty")


class _Recorder:
    """Averages the statistics of one layer's calls, each of which counts by its examples."""

    def __init__(self, layer: Any):
        self.layer = layer
        self.examples = keras.Variable(0.0, dtype="float32", trainable=False)
        variables = [v for v in layer.non_trainable_variables if v.name.startswith("moving_")]
        self.means = [
            (v, keras.Variable(np.zeros(v.shape), dtype="float32", trainable=False))
            for v in variables
        ]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Lets the layer's moving averages be those of its last call, and averages them."""
        layer, momentum = self.layer, self.layer.momentum
        self._call = layer.call
        try:
            layer.momentum, vars(layer)["call"] = 0.0, self.call
            yield
        finally:
            layer.momentum = momentum
            vars(layer).pop("call", None)

    def call(self, inputs: Any, *args: Any, **options: Any) -> Any:
        """Stands for the layer's own."""
        outputs = self._call(inputs, *args, **options)
        if options.get("training", args[0] if args else False):
            count = keras.ops.cast(keras.ops.shape(inputs)[0], "float32")
            self.examples.assign(self.examples + count)
            share = count / self.examples
            for variable, mean in self.means:
                mean.assign(mean + share * (keras.ops.cast(variable, "float32") - mean))
        return outputs

    def put_mean(self) -> None:
        """Sets the layer's statistics, if it was called to train."""
        if float(keras.ops.convert_to_numpy(self.examples)):
            for variable, mean in self.means:
                variable.assign(mean)


def _forward(model: keras.Model) -> Callable[[Any], Any]:
    """Returns what calls the model to train: on TensorFlow compiled, in a fraction of the time."""

    def forward(batch: Any) -> Any:
        return model(batch, training=True)

    if keras.backend.backend() != "tensorflow" or model.run_eagerly:
        return forward
    import tensorflow as tf

    return tf.function(forward, reduce_retracing=True)


def _batches(x: Any, batch_size: int) -> Iterator[Any]:
    """Yields the model's inputs, batch by batch."""
    if is_arrays(x):
        arrays = keras.tree.map_structure(_array, x, none_is_leaf=False)
        length = len(keras.tree.flatten(arrays)[0])
        order = np.random.default_rng(0).permutation(length)  # Data may be sorted by class.
        for begin in range(0, length, batch_size):
            chosen = order[begin : begin + batch_size]
            yield keras.tree.map_structure(lambda array, c=chosen: array[c], arrays)
        return
    if isinstance(x, keras.utils.PyDataset) and x.num_batches is not None:
        x = map(x.__getitem__, range(x.num_batches))
    for batch in x:
        yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def _array(values: Any) -> np.ndarray:
    is_tensor = keras.ops.is_tensor(values)
    return keras.ops.convert_to_numpy(values) if is_tensor else np.asarray(values)


def _no_gradients() -> Any:
    """PyTorch would keep what gradients need."""
    torch = sys.modules.get("torch")
    return torch.no_grad() if keras.backend.backend() == "torch" and torch else nullcontext()

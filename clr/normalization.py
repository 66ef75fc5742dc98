"""Batch normalisation as TensorFlow's one fused operation; elsewhere Keras's own layer."""

from functools import cache
from typing import Any

import keras


def batch_normalization(momentum: float = 0.99) -> keras.layers.BatchNormalization:
    """Returns a batch normalisation of images' channels (the last axis).

    On TensorFlow the layer calls the fused operation, which on a CPU takes a fraction of the time
    of the single ones that Keras composes; statistics, gradients and moving averages are the same
    to rounding. It is saved as Keras's own layer, and a model with it loads without this package.

    Args:
        momentum: Share that is kept of the moving averages with each update. Defaults to `0.99`.
    """
    layer = keras.layers.BatchNormalization
    if keras.backend.backend() == "tensorflow":
        layer = _fused()
    return layer(axis=-1, momentum=momentum)


@cache
def _fused() -> type[keras.layers.BatchNormalization]:
    import tensorflow as tf

    class BatchNormalization(keras.layers.BatchNormalization):
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if len(inputs.shape) != 4 or mask is not None:
                return super().call(inputs, training, mask)
            training = bool(training and self.trainable)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma,
                offset=self.beta,
                mean=[] if training else self.moving_mean,
                variance=[] if training else self.moving_variance,
                epsilon=self.epsilon,
                is_training=training,
            )
            if training:
                # The operation's variance is that of a sample, n - 1 below the line; Keras's has n.
                n = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
                for moving, batch in (
                    (self.moving_mean, mean),
                    (self.moving_variance, variance * ((n - 1) / n)),
                ):
                    moving.assign(moving * self.momentum + batch * (1 - self.momentum))
            return outputs

    # The name under which Keras saves it, and finds its own layer on loading.
    BatchNormalization.__module__ = "keras.layers"
    return BatchNormalization

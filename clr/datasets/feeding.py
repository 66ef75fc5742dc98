"""How images come to a model: augmented, and in full batches."""

from typing import Any

import keras
import numpy as np

from clr import checks

FORM: dict[str, Any] = {"data_format": "channels_last", "dtype": "float32"}
EIGHTH = 0.125  # 4 of 32 pixels.


def augmentation(flip: bool = True, crop: bool = False, cutout: float = 0.0) -> keras.Sequential:
    """Returns layers that change images at random while training, and else do nothing.

    They shift by up to 10% in each direction, the edge's pixels repeated, and flip horizontally.

    Args:
        flip: Whether to flip. Defaults to `True`.
        crop: Shift by whole pixels instead, up to an eighth in each direction, with 0 at the edge:
            a random crop of the image padded with 0. Defaults to `False`.
        cutout: Side of a square to set to 0, as a share of the image's. Defaults to `0.0`: none.

    Source: crops of padded images, He et al., "Deep Residual Learning" (arXiv:1512.03385), section
    4.2; the square, DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
    with Cutout" (arXiv:1708.04552), here always whole.
    """
    if crop:
        shift = keras.layers.RandomTranslation(
            EIGHTH, EIGHTH, fill_mode="constant", interpolation="nearest", **FORM
        )
    else:
        shift = keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", **FORM)
    # Keras knows one answer for all backends, TensorFlow's: not with XLA. On JAX it would therefore
    # compile nothing of a network with this layer in front, and train ten times slower.
    shift.supports_jit = keras.backend.backend() == "jax"
    stack: list[keras.Layer] = [shift]
    if flip:
        stack.append(keras.layers.RandomFlip("horizontal", **FORM))
    if cutout:
        area = (cutout**2, cutout**2)
        stack.append(
            keras.layers.RandomErasing((1, 1), area, fill_value=0.0, value_range=(0, 1), **FORM)
        )
    return keras.Sequential(stack, name="augmentation")


class Batches(keras.utils.PyDataset):
    """Full batches only, in an order that depends on the seed and the epoch's number alone.

    So each epoch has `examples // batch_size` iterations and cycles end where epochs end, and a
    resumed training sees the batches that an uninterrupted one would have seen. Pass to `fit`
    `batches.follow()` among the callbacks, which tells the batches which epoch begins, and
    `shuffle=False`, as Keras else shuffles the batches of an epoch once more.

    Args:
        x: Images.
        y: Labels.
        batch_size: Examples in a batch, at most `len(x)`.
        seed: Whole number from 0.

    Raises:
        ValueError: `batch_size` is below 1 or above the number of examples.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int):
        # On TensorFlow two workers, for Keras then feeds the batches through its own threads: by
        # way of tf.data, to close an epoch's iterator can mean to wait seconds for its tuning
        # thread. Elsewhere none: there Keras looks at a batch before the first epoch begins, and
        # threads would have fetched more by then, in another epoch's order.
        super().__init__(workers=2 if keras.backend.backend() == "tensorflow" else 1)
        self.x, self.y, self.seed = x, y, seed
        self._batch_size = checks.count("batch_size", batch_size)
        if self._batch_size > len(x):
            raise ValueError(
                f"`batch_size` must be at most the number of examples, {len(x)}. "
                f"Received: batch_size={batch_size!r}"
            )
        self._begin(0)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return len(self.x) // self._batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns a batch of this epoch."""
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self.x[chosen], self.y[chosen]

    def follow(self) -> keras.callbacks.Callback:
        """Returns the callback that draws each epoch's order before its first batch is fetched."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self._begin(epoch))

    def _begin(self, epoch: int) -> None:
        self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

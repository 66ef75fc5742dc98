"""A data set: images and labels in the form that is trained on."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

# Rows that scikit-learn's report adds to those of the classes.
REPORTED = ("accuracy", "micro avg", "macro avg", "weighted avg")


@dataclass(frozen=True)
class Dataset:
    """Images and labels, prepared as by `from_arrays`.

    Attributes:
        name: What the data set is called.
        x_train: Training images, float32 of shape (examples, height, width, channels), scaled to
            [0, 1] and less `mean`.
        y_train: Their labels, one-hot, float32 of shape (examples, classes).
        x_test: Test images, like `x_train`.
        y_test: Their labels, like `y_train`.
        classes: The classes' names, in the order of the labels.
        mean: The mean training image, of shape (height, width, channels), in [0, 1].
        flip: Whether a mirrored image is still of its class.
        source: Where the data came from, for the record of a run.
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    mean: np.ndarray = field(repr=False)
    flip: bool
    source: str


def from_arrays(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    *,
    name: str,
    classes: tuple[str, ...],
    flip: bool = True,
    source: str = "arrays",
) -> Dataset:
    """Scales images to [0, 1], subtracts the mean training image and one-hot encodes labels.

    Args:
        x_train: Training images of shape (examples, height, width, channels), uint8 in [0, 255]
            or float in [0, 1].
        y_train: Their labels: whole numbers of shape (examples,) or (examples, 1).
        x_test: Test images, of the same height, width and channels.
        y_test: Their labels.
        name: What to call the data set.
        classes: The classes' names, at least two; label i means `classes[i]`.
        flip: Whether augmentation may mirror an image. Defaults to `True`.
        source: Where the data came from, for the record of a run.

    Raises:
        ValueError: Shapes, types or values that disagree with the above or each other.
    """
    if len(classes) < 2:
        raise ValueError(f"`classes` must name at least two classes. Received: classes={classes!r}")
    if set(classes) & set(REPORTED):
        raise ValueError(
            f"`classes` must not be named as rows of the report are ({', '.join(REPORTED)}). "
            f"Received: classes={classes!r}"
        )
    train, test = _scaled("x_train", x_train), _scaled("x_test", x_test)
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            "`x_train` and `x_test` must hold images of one shape. "
            f"Received: x_train {train.shape[1:]}, x_test {test.shape[1:]}"
        )
    mean = train.mean(axis=0, dtype="float64").astype("float32")
    train -= mean
    test -= mean
    return Dataset(
        name,
        train,
        _one_hot("y_train", y_train, len(train), classes),
        test,
        _one_hot("y_test", y_test, len(test), classes),
        classes=tuple(classes),
        mean=mean,
        flip=flip,
        source=source,
    )


def _scaled(name: str, images: Any) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise ValueError(
            f"`{name}` must have shape (examples, height, width, channels), none of them 0. "
            f"Received: {name} of shape {images.shape}"
        )
    if images.dtype == np.uint8:
        return images.astype("float32") / 255
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"`{name}` must be uint8 in [0, 255] or float in [0, 1]. Received: {name} of type "
            f"{images.dtype}, from {images.min()} to {images.max()}"
        )
    return images.astype("float32")


def _one_hot(name: str, labels: Any, examples: int, classes: tuple[str, ...]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape not in [(examples,), (examples, 1)] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must hold one whole number for each of the {examples} images. "
            f"Received: {name} of shape {labels.shape}, type {labels.dtype}"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"`{name}` must be from 0 to {len(classes) - 1}, for {len(classes)} classes. "
            f"Received: {name} from {labels.min()} to {labels.max()}"
        )
    return keras.utils.to_categorical(labels.reshape(-1), len(classes)).astype("float32")

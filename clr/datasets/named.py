"""Data sets by name: CIFAR-10 and the digits, or a folder by its path."""

import hashlib
import os
import warnings
from pathlib import Path

import keras
import numpy as np

from clr.datasets import official
from clr.datasets.dataset import Dataset, from_arrays
from clr.datasets.folder import image_folder

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # Of training, then of test.

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


def digits() -> Dataset:
    """Returns scikit-learn's 1,797 handwritten digits, enlarged from 8x8x1 to 32x32x3.

    A fifth of each class, always the same, is the test set. Nothing is downloaded.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    enlarged = np.kron(bunch.images / 16, np.ones((4, 4)))[..., None].repeat(3, axis=-1)
    x_train, x_test, y_train, y_test = train_test_split(
        enlarged, bunch.target, test_size=0.2, random_state=0, stratify=bunch.target
    )
    return from_arrays(
        *(x_train, y_train, x_test, y_test),
        name="digits",
        classes=tuple("0123456789"),
        flip=False,
        source="scikit-learn's load_digits",
    )


def cifar10() -> Dataset:
    """Returns CIFAR-10: 50,000 training and 10,000 test images of 32x32x3, in ten classes.

    Reads `$CLR_DATA_DIR/cifar10.npz` if that variable is set (arrays `x_train`, `y_train`,
    `x_test`, `y_test` as in Keras's mnist.npz), else Keras's own download.

    The data are checked by the SHA-1 of the official batches, and others are refused. To use
    others all the same, set `CLR_DATA_UNCHECKED=1`. Then a warning says how they differ, and so
    does `source`, which goes into the records of runs. For such data `source` also quotes your
    note beside the file, `cifar10.txt`.

    Raises:
        ValueError: The data are not the official ones, and `CLR_DATA_UNCHECKED` does not allow
            others. Whatever it says: the file is damaged, or its keys, types, shapes or labels are
            wrong. `CLR_DATA_UNCHECKED` is something else than 1, true, 0, false or empty.
        FileNotFoundError: `$CLR_DATA_DIR` is set and the file is not there.
        ConnectionError: It is not set and the download failed.

    Warns:
        UserWarning: The data are not the official ones, and `CLR_DATA_UNCHECKED` allows others.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """
    unchecked = _unchecked()
    folder = os.environ.get("CLR_DATA_DIR")
    if folder:
        path = Path(folder) / "cifar10.npz"
        name, remedy = str(path), "Put the official file there, unset CLR_DATA_DIR to download it"
        arrays, source, note = _read_cifar10(path)
    else:
        name, remedy = "Keras's copy", "Delete cifar-10* in ~/.keras/datasets to download it again"
        arrays, source, note = _download_cifar10(), "keras.datasets.cifar10", ""
    difference = official.difference(*arrays)
    refusal = f"{name} is not the official CIFAR-10: {difference}."
    if difference and not unchecked:
        raise ValueError(
            f"{refusal} {remedy}, or set CLR_DATA_UNCHECKED=1 to use these data all the same."
        )
    if difference:
        source = f"not the official CIFAR-10: {difference}; {source}{note}"
    else:
        images = len(arrays[0]) + len(arrays[2])
        source += f": CIFAR-10's own {images:,} images, checked by the SHA-1 of their batches"
    data = from_arrays(*arrays, name="cifar10", classes=CIFAR10_CLASSES, flip=True, source=source)
    if difference:
        warnings.warn(f"{refusal} CLR_DATA_UNCHECKED is set, so it is used.", stacklevel=2)
    return data


def _unchecked() -> bool:
    """Whether you use other data than the official ones under the name of CIFAR-10."""
    allowed = os.environ.get("CLR_DATA_UNCHECKED", "")
    if allowed.lower() not in ("1", "true", "0", "false", ""):
        raise ValueError(
            "`CLR_DATA_UNCHECKED` must be 1 or true to use data that are not the official "
            "CIFAR-10, else 0, false or empty. "
            f"Received: CLR_DATA_UNCHECKED={allowed!r}"
        )
    return allowed.lower() in ("1", "true")


def _download_cifar10() -> Arrays:
    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    except Exception as error:  # Keras's loader raises a bare Exception when a download fails.
        raise ConnectionError(
            f"CIFAR-10 could not be downloaded ({error}). Either connect to the network and "
            "try again, or put cifar10.npz (arrays x_train, y_train, x_test, y_test) into a "
            "folder and name that folder in the environment variable CLR_DATA_DIR."
        ) from error
    if keras.config.image_data_format() == "channels_first":
        x_train, x_test = (np.moveaxis(images, 1, -1) for images in (x_train, x_test))
    return x_train, y_train, x_test, y_test


def _read_cifar10(path: Path) -> tuple[Arrays, str, str]:
    """Returns the file's arrays, its name and digest, and the note beside it."""
    if not path.is_file():
        raise FileNotFoundError(
            f"No {path.name} in the folder that CLR_DATA_DIR names ({path.parent}). Either put it "
            "there (arrays x_train, y_train, x_test, y_test), or unset CLR_DATA_DIR to let Keras "
            "download CIFAR-10."
        )
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if set(archive.files) != set(keys):
                raise ValueError(f"arrays {sorted(keys)} expected, {sorted(archive.files)} found")
            arrays = {key: archive[key] for key in keys}
    except Exception as error:  # Damage shows as errors of zipfile, zlib, tokenize, ... as well.
        raise ValueError(
            f"{path} can't be read as CIFAR-10 (arrays x_train, y_train, x_test, y_test, uint8, "
            f"not pickled): {error}"
        ) from error
    for key, array in arrays.items():
        shape = (32, 32, 3) if key.startswith("x") else ()
        if array.dtype != np.uint8 or array.shape[1:] not in [shape, shape or (1,)]:
            raise ValueError(
                f"{path}: {key} must be uint8 of shape (examples{', 32, 32, 3' if shape else ''}). "
                f"Received: {array.dtype} of shape {array.shape}"
            )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = path.with_suffix(".txt")
    said = note.read_text(encoding="utf-8").strip() if note.is_file() else "origin not stated"
    x_train, y_train, x_test, y_test = arrays.values()
    return (x_train, y_train, x_test, y_test), f"{path.name}, sha256 {digest[:16]}", f": {said}"


LOADERS = {"cifar10": cifar10, "digits": digits}


def load(name: str) -> Dataset:
    """Returns a data set by its name, or from a folder of images.

    Args:
        name: `"cifar10"`, `"digits"`, or the path of a folder for `image_folder`, which is read
            with that function's defaults.

    Raises:
        ValueError: Neither a known name nor a folder, or a folder that `image_folder` refuses.
    """
    if isinstance(name, str) and name in LOADERS:
        return LOADERS[name]()
    if isinstance(name, str) and os.path.isdir(name):
        return image_folder(name)
    raise ValueError(
        f"`dataset` must be one of {', '.join(LOADERS)}, or a folder with one folder of images "
        f"for each class. Received: dataset={name!r}"
    )

"""Data sets by name: CIFAR-10 and the digits, or a folder by its path."""

import hashlib
import os
from pathlib import Path

import keras
import numpy as np

from clr.datasets.dataset import Dataset, from_arrays
from clr.datasets.folder import image_folder

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
    `x_test`, `y_test` as in Keras's mnist.npz; a note beside it in `cifar10.txt` is quoted in
    the records of runs), else Keras's own download.

    Raises:
        ValueError: The file is damaged, or its keys, types, shapes or values are wrong.
        FileNotFoundError: `$CLR_DATA_DIR` is set and the file is not there.
        ConnectionError: It is not set and the download failed.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """
    folder = os.environ.get("CLR_DATA_DIR")
    if folder:
        x_train, y_train, x_test, y_test, source = _read_cifar10(Path(folder) / "cifar10.npz")
    else:
        try:
            (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
        except Exception as error:  # Keras's loader raises a bare Exception when a download fails.
            raise ConnectionError(
                f"CIFAR-10 could not be downloaded ({error}). Either connect to the network and "
                "try again, or put cifar10.npz (arrays x_train, y_train, x_test, y_test) into a "
                "folder and name that folder in the environment variable CLR_DATA_DIR."
            ) from error
        source = "keras.datasets.cifar10"
    return from_arrays(
        *(x_train, y_train, x_test, y_test),
        name="cifar10",
        classes=CIFAR10_CLASSES,
        flip=True,
        source=source,
    )


def _read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
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
    return (*arrays.values(), f"{path.name}, sha256 {digest[:16]}: {said}")  # type: ignore[return-value]


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

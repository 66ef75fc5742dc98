"""Image data sets, ready for training: CIFAR-10, digits that need no download, your own folder."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clr import checks

# Rows that scikit-learn's report adds to those of the classes.
REPORTED = ("accuracy", "micro avg", "macro avg", "weighted avg")
CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


@dataclass(frozen=True)
class Dataset:
    """Images and labels, prepared as `prepare` says.

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
    return prepare(
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
    return prepare(
        *(x_train, y_train, x_test, y_test),
        name="cifar10",
        classes=CIFAR10_CLASSES,
        flip=True,
        source=source,
    )


LOADERS = {"cifar10": cifar10, "digits": digits}


def image_folder(
    directory: str | os.PathLike,
    *,
    image_size: tuple[int, int] = (32, 32),
    validation_split: float = 0.2,
    seed: int = 0,
    flip: bool = True,
    **reading: Any,
) -> Dataset:
    """Returns the images of a folder that holds one folder of them for each class.

    Keras finds and reads them, in sorted order: files that end in .jpg, .jpeg, .png, .bmp or .gif
    (of a GIF the first frame), hidden ones and those in folders further down included. It passes
    over other files, and classes whose name begins with a dot. Links to files are read; links to
    folders within a class are followed with `follow_links=True` alone.

    Every image is resized to `image_size`, whatever its size: one of a single pixel becomes a plain
    one. Its proportions are lost, unless you ask for `crop_to_aspect_ratio=True`. Images of more
    than 178 million pixels, Pillow's limit, are refused as unreadable, as a small file of that kind
    could fill the memory. All images are held in memory: 12 KiB each, at 32x32x3.

    Of each class the share `validation_split`, rounded, becomes the test set. It is drawn at
    random, always the same for the same seed, whatever images the other classes have.

    Args:
        directory: The folder.
        image_size: Height and width that images are resized to. Defaults to `(32, 32)`, the least
            that `MiniGoogLeNet` takes.
        validation_split: Share of each class to test on, in (0, 1). Defaults to `0.2`.
        seed: Whole number from 0, for the split. Defaults to `0`.
        flip: Whether augmentation may mirror an image. Defaults to `True`.
        **reading: Passed on to `keras.utils.image_dataset_from_directory`: `color_mode`
            (`"rgb"`; `"grayscale"` and `"rgba"` have 1 and 4 channels), `class_names` (some of the
            classes, in an order of yours), `interpolation` (`"bilinear"`; `"area"` keeps more of
            large photos), `crop_to_aspect_ratio`, `pad_to_aspect_ratio`, `follow_links`.

    Returns:
        A `Dataset` with images of shape (examples, height, width, 3). Its name is the folder's, its
        classes are the names of the folders within, sorted as text: "10" stands before "2".

    Raises:
        FileNotFoundError: No such folder.
        NotADirectoryError: It is a file.
        ValueError: Fewer than two classes, a class without an image or with too few to split, a
            file that is no readable image, or an argument out of its range.
        TypeError: An argument of the wrong type.
        ImportError: Neither TensorFlow nor Grain is there to read with.

    Source: keras.io/api/data_loading/image, `image_dataset_from_directory`.
    """
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        raise ValueError(
            f"`image_size` must be (height, width). Received: image_size={image_size!r}"
        )
    height, width = (checks.count("image_size", n) for n in image_size)
    validation_split = checks.share("validation_split", validation_split)
    seed = checks.count("seed", seed, minimum=0)
    folder = Path(directory)
    if not folder.is_dir():
        error = NotADirectoryError if folder.exists() else FileNotFoundError
        raise error(f"`directory` must be a folder. Received: directory={str(directory)!r}")
    name = _name(folder)
    found = sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
    if len(found) < 2:
        raise ValueError(
            "`directory` must hold one folder of images for each class, at least two. "
            f"Received: {name!r} with the folders {found}"
        )
    files = keras.utils.image_dataset_from_directory(
        str(folder),
        label_mode="int",
        batch_size=None,
        image_size=(height, width),
        shuffle=False,
        data_format="channels_last",
        verbose=False,
        **_file_reader(),
        **reading,
    )
    classes = tuple(files.class_names)
    paths = [Path(path).relative_to(folder) for path in files.file_paths]
    labels = np.array([classes.index(path.parts[0]) for path in paths])
    test = _held_out(labels, classes, validation_split, seed)
    images = _read_images(files, paths, folder)
    return prepare(
        *(images[~test], labels[~test], images[test], labels[test]),
        name=name,
        classes=classes,
        flip=flip,
        source=f"a folder of {len(images):,} images, {height}x{width}, of each class "
        f"{validation_split:.0%} to test on, drawn with seed {seed}",
    )


def prepare(
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


def augmentation(flip: bool = True) -> keras.Sequential:
    """Returns layers that shift and flip images at random while training, and else do nothing.

    Shifts of up to 10 % in each direction, the edge's pixels repeated; horizontal flips.

    Args:
        flip: Whether to flip. Defaults to `True`.
    """
    shift = keras.layers.RandomTranslation(
        0.1, 0.1, fill_mode="nearest", data_format="channels_last", dtype="float32"
    )
    # Keras knows one answer for all backends, TensorFlow's: not with XLA. On JAX it would therefore
    # compile nothing of a network with this layer in front, and train ten times slower.
    shift.supports_jit = keras.backend.backend() == "jax"
    stack: list[keras.Layer] = [shift]
    if flip:
        stack.append(
            keras.layers.RandomFlip("horizontal", data_format="channels_last", dtype="float32")
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


def _file_reader() -> dict[str, str]:
    """Returns how Keras is to read images: with TensorFlow, else with Grain."""
    if find_spec("tensorflow"):
        return {}  # Keras's default, and the only way that older versions of Keras know.
    if find_spec("grain"):
        return {"format": "grain"}
    raise ImportError(
        "To read a folder of images takes TensorFlow or Grain, and neither is installed. With "
        "Keras on JAX or PyTorch the latter is enough: pip install grain"
    )


def _held_out(
    labels: np.ndarray, classes: tuple[str, ...], validation_split: float, seed: int
) -> np.ndarray:
    """Returns for each example whether it is of the test set."""
    counts = Counter(labels.tolist())
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise ValueError(
            "Each class's folder must hold images: files that end in .jpg, .jpeg, .png, .bmp or "
            f".gif. There is none in {', '.join(empty)}"
        )
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        held_out = round(validation_split * counts[label])
        if not 0 < held_out < counts[label]:
            raise ValueError(
                "`validation_split` must leave images of each class on both sides. Received: "
                f"validation_split={validation_split!r}, and images of class {name!r}: "
                f"{counts[label]}"
            )
        random = np.random.default_rng([seed, label])
        test[random.choice(np.flatnonzero(labels == label), held_out, replace=False)] = True
    return test


def _read_images(files: Any, paths: list[Path], folder: Path) -> np.ndarray:
    """Returns the images of shape (examples, height, width, channels), in [0, 1]."""
    from PIL import Image

    def unreadable(path: Path) -> ValueError:
        return ValueError(
            f"{path.as_posix()} in the folder {_name(folder)!r} can't be read as an image: it is "
            "damaged, or too large, or no JPEG, PNG, BMP or GIF. Mend or remove it."
        )

    # The headers first: Pillow refuses a size that would fill the memory, TensorFlow does not.
    for path in paths:
        try:
            Image.open(folder / path).close()
        except Exception as error:  # Damage shows as errors of many kinds, here and below.
            raise unreadable(path) from error
    images, reader = [], iter(files)
    for path in paths:
        try:
            image, _ = next(reader)
        except Exception as error:  # No reader's error names the file.
            raise unreadable(path) from error
        # Bicubic and Lanczos resizing may overshoot.
        images.append(np.clip(np.asarray(image) / 255, 0, 1))
    return np.stack(images)


def _name(folder: Path) -> str:
    return os.path.basename(os.path.abspath(folder))


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

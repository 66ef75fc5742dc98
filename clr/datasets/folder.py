"""A data set from your own folder of images."""

import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clr import checks
from clr.datasets.dataset import Dataset, from_arrays


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
    return from_arrays(
        *(images[~test], labels[~test], images[test], labels[test]),
        name=name,
        classes=classes,
        flip=flip,
        source=f"a folder of {len(images):,} images, {height}x{width}, of each class "
        f"{validation_split:.0%} to test on, drawn with seed {seed}",
    )


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
            "damaged, or too large, or no JPEG, PNG, BMP or GIF. Repair or remove it."
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

"""CIFAR-10 is known when it is seen, and other data are refused, each with its own sentence.

A small set stands in for CIFAR-10: its sums replace the official ones.
"""

import hashlib
import io
import re
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

from clr import datasets
from clr.datasets import official

BATCH, SOURCE = 20, "CIFAR-10's own 120 images, checked by the SHA-1 of their batches"
RNG = np.random.default_rng(0)
OWN = {
    "x_train": RNG.integers(0, 256, (5 * BATCH, 32, 32, 3), dtype="uint8"),
    "y_train": RNG.integers(0, 10, (5 * BATCH, 1), dtype="uint8"),
    "x_test": RNG.integers(0, 256, (BATCH, 32, 32, 3), dtype="uint8"),
    "y_test": RNG.integers(0, 10, (BATCH, 1), dtype="uint8"),
}


def sha1(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture(autouse=True)
def sums(monkeypatch):
    """The small set's, put together byte by byte as the official files are."""
    images = [planes(image) for part in ("x_train", "x_test") for image in OWN[part]]
    labels = [bytes(label) for part in ("y_train", "y_test") for label in OWN[part]]
    records = [label + image for label, image in zip(labels, images, strict=True)]
    sums = [sha1(b"".join(records[at : at + BATCH])) for at in range(0, 6 * BATCH, BATCH)]
    hashes = [hashlib.sha1(image).digest() for image in images]
    for name, value in {
        "BATCH": BATCH,
        "TRAIN": tuple(sums[:5]),
        "TEST": tuple(sums[5:]),
        "LABELS": sha1(b"".join(labels)),
        "IMAGES": sha1(b"".join(hashes)),
        "IMAGES_IN_ANY_ORDER": sha1(b"".join(sorted(hashes))),
    }.items():
        monkeypatch.setattr(official, name, value)


def planes(image):
    """All red bytes, then the green ones, then the blue ones."""
    return b"".join(image[..., channel].tobytes() for channel in range(3))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes `cifar10.npz`, the small set but for the given arrays, and returns its path."""
    monkeypatch.setenv("CLR_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("CLR_DATA_UNCHECKED", raising=False)

    def write_one(**changes):
        np.savez(tmp_path / "cifar10.npz", **{**OWN, **changes})
        return tmp_path / "cifar10.npz"

    return write_one


def read_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return datasets.cifar10()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as they are"),
        pytest.param({"y_train": OWN["y_train"][:, 0]}, id="flat labels"),
        pytest.param({"x_train": np.asfortranarray(OWN["x_train"])}, id="in Fortran's order"),
    ],
)
@pytest.mark.parametrize("allowed", ["", "0", "1"])
def test_the_official_data_are_taken_without_a_word(write, monkeypatch, changes, allowed):
    path = write(**changes)
    path.with_suffix(".txt").write_text("From a friend.\n")
    monkeypatch.setenv("CLR_DATA_UNCHECKED", allowed)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_silently().source == f"cifar10.npz, sha256 {digest[:16]}: {SOURCE}"


def shuffled(*parts):
    order = np.random.default_rng(1).permutation(5 * BATCH)
    return {part: OWN[part][order] for part in parts}


def with_one_changed(part, at):
    changed = OWN[part].copy()
    changed[at] = (changed[at] + 1) % 10
    return {part: changed}


def as_jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return np.asarray(Image.open(buffer))


def re_encoded():
    return {part: np.stack([as_jpeg(i) for i in OWN[part]]) for part in ("x_train", "x_test")}


def cut(part, images):
    return {f"{kind}_{part}": OWN[f"{kind}_{part}"][:-images] for kind in "xy"}


def exchanged():
    pairs = ("x_train", "x_test"), ("y_train", "y_test")
    return {one: OWN[other] for pair in pairs for one, other in (pair, pair[::-1])}


def a_batch_of_each_exchanged():
    return {
        f"{kind}_{part}": images
        for kind in "xy"
        for part, images in {
            "train": np.concatenate([OWN[f"{kind}_test"], OWN[f"{kind}_train"][BATCH:]]),
            "test": OWN[f"{kind}_train"][:BATCH],
        }.items()
    }


def another_data_set():
    return {name: np.random.default_rng(2).permutation(array) // 2 for name, array in OWN.items()}


COUNTS = "not 100 and 20"
IN_ANOTHER_ORDER = "it has the same images in another order"
CHANGED = "the labels are CIFAR-10's, the images are not"
LABELS = "the images are CIFAR-10's, the labels are not"
OTHERS = [
    ("images cut", cut("train", 10), f"it has 90 training and 20 test images, {COUNTS}"),
    ("test images cut", cut("test", 1), f"it has 100 training and 19 test images, {COUNTS}"),
    (
        "exchanged and cut",
        {**exchanged(), "x_train": OWN["x_test"][1:], "y_train": OWN["y_test"][1:]},
        f"it has 19 training and 100 test images, {COUNTS}",
    ),
    ("exchanged", exchanged(), "the training and the test images are exchanged"),
    ("one value", with_one_changed("x_train", (41, 5, 6, 1)), f"{CHANGED}, in 1 of 6 batches"),
    ("a test image", with_one_changed("x_test", 3), f"{CHANGED}, in 1 of 6 batches"),
    ("re-encoded", re_encoded(), f"{CHANGED}, in 6 of 6 batches: changed or re-encoded"),
    ("mirrored", {"x_test": OWN["x_test"][:, :, ::-1]}, f"{CHANGED}, in 1 of 6 batches"),
    ("shuffled", shuffled("x_train", "y_train"), f"{IN_ANOTHER_ORDER}, in 5 of 6 batches"),
    (
        "images shuffled",
        shuffled("x_train"),
        f"{IN_ANOTHER_ORDER} than their labels, in 5 of 6 batches",
    ),
    ("test in train", a_batch_of_each_exchanged(), f"{IN_ANOTHER_ORDER}, in 2 of 6 batches"),
    ("one label", with_one_changed("y_train", 99), f"{LABELS}, in 1 of 6 batches"),
    ("a test label", with_one_changed("y_test", 0), f"{LABELS}, in 1 of 6 batches"),
    (
        "another data set",
        another_data_set(),
        "neither the images nor the labels are CIFAR-10's, in 6 of 6 batches",
    ),
]
others = pytest.mark.parametrize(
    ("changes", "said"), [pytest.param(*other, id=name) for name, *other in OTHERS]
)


@others
@pytest.mark.parametrize("allowed", ["", "0", "False"])
def test_other_data_are_refused_and_what_differs_is_said(
    write, monkeypatch, changes, said, allowed
):
    path = write(**changes)
    monkeypatch.setenv("CLR_DATA_UNCHECKED", allowed)
    with pytest.raises(ValueError) as caught:
        datasets.cifar10()
    error = str(caught.value)
    assert error.startswith(f"{path} is not the official CIFAR-10: {said}")
    assert "Put the official file there, unset CLR_DATA_DIR" in error
    assert "or set CLR_DATA_UNCHECKED=1" in error and error.count(". ") == 1


@others
@pytest.mark.parametrize("allowed", ["1", "true", "TRUE"])
def test_other_data_are_taken_if_you_say_so_and_never_pose_as_official(
    write, monkeypatch, changes, said, allowed
):
    path = write(**changes)
    path.with_suffix(".txt").write_text(SOURCE)
    monkeypatch.setenv("CLR_DATA_UNCHECKED", allowed)
    with pytest.warns(UserWarning, match=re.escape(f"is not the official CIFAR-10: {said}")):
        source = datasets.cifar10().source
    assert source.startswith(f"not the official CIFAR-10: {said}")


@pytest.mark.parametrize("allowed", ["maybe", "2", "yes", " "])
def test_a_variable_that_says_neither_yes_nor_no_is_refused(write, monkeypatch, allowed):
    write()
    monkeypatch.setenv("CLR_DATA_UNCHECKED", allowed)
    with pytest.raises(ValueError) as caught:
        datasets.cifar10()
    assert f"Received: CLR_DATA_UNCHECKED={allowed!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "differs", "wrong"),
    [
        pytest.param(
            OWN["y_train"] * 10, "the images are", "`y_train` must be from 0 to 9", id="CIFAR-100's"
        ),
        pytest.param(
            OWN["y_train"][1:],
            "it has 99 training and 20 test labels, not 100 and 20",
            "`y_train` must hold one whole number",
            id="one too few",
        ),
    ],
)
def test_wrong_labels_are_refused_even_then(write, monkeypatch, labels, differs, wrong):
    write(y_train=labels)
    with pytest.raises(ValueError, match=f"is not the official CIFAR-10: {differs}"):
        datasets.cifar10()
    monkeypatch.setenv("CLR_DATA_UNCHECKED", "1")
    with pytest.raises(ValueError, match=wrong):
        read_silently()


@pytest.mark.parametrize("allowed", ["", "1"])
def test_a_file_that_is_cut_short_is_refused_either_way(write, monkeypatch, allowed):
    path = write()
    path.write_bytes(path.read_bytes()[:-1000])
    monkeypatch.setenv("CLR_DATA_UNCHECKED", allowed)
    with pytest.raises(ValueError, match=r"cifar10\.npz can't be read as CIFAR-10"):
        datasets.cifar10()


@pytest.fixture
def downloaded(monkeypatch):
    """Lets Keras's loader return the small set but for the given arrays."""
    monkeypatch.delenv("CLR_DATA_DIR", raising=False)
    monkeypatch.delenv("CLR_DATA_UNCHECKED", raising=False)

    def download(**changes):
        parts = {**OWN, **changes}
        if keras.config.image_data_format() == "channels_first":
            parts |= {name: np.moveaxis(parts[name], -1, 1) for name in ("x_train", "x_test")}
        pairs = (parts["x_train"], parts["y_train"]), (parts["x_test"], parts["y_test"])
        monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: pairs)

    return download


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_keras_download_is_checked_too(downloaded, data_format):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        downloaded()
        data = read_silently()
    finally:
        keras.config.set_image_data_format(before)
    assert data.source == f"keras.datasets.cifar10: {SOURCE}"
    np.testing.assert_allclose(data.x_train + data.mean, OWN["x_train"] / 255, atol=1e-6)


def test_other_data_in_keras_cache_are_refused_or_named(downloaded, monkeypatch):
    downloaded(**with_one_changed("x_train", 0))
    with pytest.raises(ValueError, match=r"Keras's copy is not .* Delete cifar-10\* in"):
        datasets.cifar10()
    monkeypatch.setenv("CLR_DATA_UNCHECKED", "1")
    with pytest.warns(UserWarning, match="Keras's copy is not the official CIFAR-10"):
        source = datasets.cifar10().source
    assert source.startswith("not the official CIFAR-10: ")
    assert source.endswith("; keras.datasets.cifar10")

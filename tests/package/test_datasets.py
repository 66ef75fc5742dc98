"""Data sets: what they hold, what is refused, augmentation, and the order of batches."""

import hashlib
import importlib.machinery
import io
import os
import struct
import sys
import types
import urllib.request
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

from clr import datasets

RNG = np.random.default_rng(0)
CIFAR = {
    "x_train": RNG.integers(0, 256, (20, 32, 32, 3), dtype="uint8"),
    "y_train": np.arange(20, dtype="uint8") % 10,
    "x_test": RNG.integers(0, 256, (10, 32, 32, 3), dtype="uint8"),
    "y_test": np.arange(10, dtype="uint8"),
}
ARRAYS = {  # Right input for `from_arrays`.
    "x_train": np.linspace(0, 1, 6 * 4 * 4, dtype="float32").reshape(6, 4, 4, 1),
    "y_train": np.array([0, 1, 2, 0, 1, 2]),
    "x_test": np.zeros((2, 4, 4, 1), "float32"),
    "y_test": np.array([2, 0]),
}
ABC = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where `cifar10.npz` is read from, whatever images it holds: test_official.py checks them."""
    monkeypatch.setenv("CLR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CLR_DATA_UNCHECKED", "1")
    return tmp_path


# Digits


def test_digits_are_ready_to_train_on():
    data = datasets.load("digits")
    assert data.x_train.shape == (1437, 32, 32, 3) and data.x_test.shape == (360, 32, 32, 3)
    assert data.y_train.shape == (1437, 10) and data.y_test.shape == (360, 10)
    for array in (data.x_train, data.y_train, data.x_test, data.y_test, data.mean):
        assert array.dtype == np.float32
    for labels in (data.y_train, data.y_test):
        assert set(np.unique(labels)) == {0, 1}
        assert (labels.sum(axis=1) == 1).all()
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-5)
    images = data.x_train + data.mean
    assert images.min() == pytest.approx(0, abs=1e-6)
    assert images.max() == pytest.approx(1, abs=1e-6)
    assert data.classes == tuple("0123456789") and data.flip is False


def test_digits_keep_their_images_and_labels_together():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    known = dict(zip([image.tobytes() for image in bunch.images], bunch.target, strict=True))
    data = datasets.digits()
    small = np.rint((data.x_test + data.mean)[:, ::4, ::4, 0].astype("float64") * 16)
    assert [known[image.tobytes()] for image in small] == data.y_test.argmax(axis=1).tolist()


def test_digits_split_is_stable_and_stratified():
    first, second = datasets.digits(), datasets.digits()
    np.testing.assert_array_equal(first.x_test, second.x_test)
    np.testing.assert_array_equal(first.y_train, second.y_train)
    held_out, kept = first.y_test.sum(axis=0), first.y_train.sum(axis=0)
    assert np.abs(held_out - (held_out + kept) / 5).max() < 1  # Of each class, to the image.


@pytest.mark.parametrize("name", ["mnist", "", None, 10])
def test_unknown_data_set_is_named(name):
    with pytest.raises(ValueError) as caught:
        datasets.load(name)
    assert f"dataset={name!r}" in str(caught.value) and "cifar10, digits" in str(caught.value)


# from_arrays


def test_from_arrays_subtracts_the_training_mean_from_both_parts():
    data = datasets.from_arrays(**ARRAYS, name="own", classes=ABC, flip=False, source="here")
    mean = ARRAYS["x_train"].mean(axis=0)
    np.testing.assert_allclose(data.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(data.x_train, ARRAYS["x_train"] - mean, atol=1e-6)
    np.testing.assert_allclose(data.x_test, -np.broadcast_to(mean, (2, 4, 4, 1)), atol=1e-6)
    np.testing.assert_array_equal(data.y_test, [[0, 0, 1], [1, 0, 0]])
    assert (data.name, data.classes, data.flip, data.source) == ("own", ABC, False, "here")


def test_prepare_leaves_the_callers_arrays_alone():
    arrays = {name: array.copy() for name, array in ARRAYS.items()}
    datasets.from_arrays(**arrays, name="own", classes=ABC)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_prepare_takes_bytes_and_columns_of_labels():
    data = datasets.from_arrays(
        (ARRAYS["x_train"] * 255).astype("uint8"),
        ARRAYS["y_train"].reshape(-1, 1),
        np.full((2, 4, 4, 1), 255, "uint8"),
        ARRAYS["y_test"].reshape(-1, 1),
        name="own",
        classes=ABC,
    )
    np.testing.assert_allclose(data.x_test + data.mean, 1, rtol=1e-6)
    np.testing.assert_array_equal(data.y_train.argmax(axis=1), ARRAYS["y_train"])


@pytest.mark.parametrize(
    ("argument", "value", "echo"),
    [
        ("classes", ("a",), "('a',)"),
        ("classes", ("a", "accuracy", "c"), "'accuracy'"),
        ("x_train", np.zeros((6, 4, 4)), "(6, 4, 4)"),
        ("x_train", np.zeros((0, 4, 4, 1)), "(0, 4, 4, 1)"),
        ("x_test", np.zeros((2, 4, 5, 1)), "(4, 5, 1)"),
        ("x_test", np.zeros((2, 4, 4, 3)), "(4, 4, 3)"),
        ("x_train", np.full((6, 4, 4, 1), 255.0), "255.0"),
        ("x_test", np.full((2, 4, 4, 1), -0.5), "-0.5"),
        ("x_test", np.full((2, 4, 4, 1), np.nan), "nan"),
        ("x_train", np.zeros((6, 4, 4, 1), "int32"), "int32"),
        ("y_train", np.array([0, 1, 2]), "(3,)"),
        ("y_test", np.eye(3)[:2], "(2, 3)"),
        ("y_test", np.array([0.0, 1.0]), "float64"),
        ("y_train", np.array([0, 1, 2, 0, 1, 3]), "0 to 3"),
        ("y_test", np.array([-1, 0]), "-1 to 0"),
    ],
)
def test_prepare_refuses_and_names(argument, value, echo):
    with pytest.raises(ValueError) as caught:
        datasets.from_arrays(**{**ARRAYS, "classes": ABC, "name": "own", argument: value})
    assert f"`{argument}`" in str(caught.value) and echo in str(caught.value)


# CIFAR-10 from a file

UNOFFICIAL = pytest.mark.filterwarnings("ignore:.*is not the official CIFAR-10")


@UNOFFICIAL
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_cifar10_is_read_from_the_named_folder(folder, save):
    save(folder / "cifar10.npz", **CIFAR)
    data = datasets.load("cifar10")
    np.testing.assert_allclose(data.x_train + data.mean, CIFAR["x_train"] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.y_test, np.eye(10))
    assert data.classes[0] == "airplane" and data.classes[9] == "truck"
    assert data.flip is True
    assert data.source.endswith("origin not stated")


@UNOFFICIAL
def test_cifar10_records_the_files_digest_and_note(folder):
    np.savez(folder / "cifar10.npz", **CIFAR)
    (folder / "cifar10.txt").write_text("Twenty images, for a test.\n")
    source = datasets.cifar10().source
    digest = hashlib.sha256((folder / "cifar10.npz").read_bytes()).hexdigest()
    assert source.endswith(f"; cifar10.npz, sha256 {digest[:16]}: Twenty images, for a test.")


def test_missing_file_names_the_folder_and_both_remedies(folder):
    with pytest.raises(FileNotFoundError) as caught:
        datasets.cifar10()
    assert str(folder) in str(caught.value)
    assert "put it there" in str(caught.value) and "unset CLR_DATA_DIR" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "echo"),
    [
        ({"x_test": None}, "'x_train', 'y_test', 'y_train'] found"),
        ({"extra": np.zeros(1)}, "'extra'"),
        ({"x_train": CIFAR["x_train"] / 255}, "x_train must be uint8"),
        ({"y_test": CIFAR["y_test"].astype("int64")}, "int64"),
        ({"x_test": np.zeros((10, 3, 32, 32), "uint8")}, "(10, 3, 32, 32)"),
        ({"x_train": np.zeros((20, 3072), "uint8")}, "(20, 3072)"),
        ({"y_train": np.zeros((20, 10), "uint8")}, "(20, 10)"),
        ({"y_train": np.zeros(19, "uint8")}, "y_train of shape (19,)"),
        ({"y_test": np.full(10, 10, "uint8")}, "`y_test` must be from 0 to 9"),
    ],
)
def test_wrong_arrays_are_named(folder, change, echo):
    arrays = {k: v for k, v in {**CIFAR, **change}.items() if v is not None}
    np.savez(folder / "cifar10.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        datasets.cifar10()
    assert echo in str(caught.value)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_pickled_objects_are_refused_and_never_run(folder):
    marker = folder / "ran"
    bomb = np.array([Bomb(marker)], dtype=object)
    np.savez(folder / "cifar10.npz", **{**CIFAR, "y_train": bomb})
    with pytest.raises(ValueError, match=r"cifar10\.npz.*not pickled"):
        datasets.cifar10()
    assert not marker.exists()
    with np.load(folder / "cifar10.npz", allow_pickle=True) as archive:
        archive["y_train"]
    assert marker.exists()  # The bomb is a live one.


def packed(save=np.savez, **arrays):
    buffer = io.BytesIO()
    save(buffer, **(arrays or CIFAR))
    return buffer.getvalue()


def overwritten(content, at, by):
    return content[:at] + by + content[at + len(by) :]


def lone_array():
    buffer = io.BytesIO()
    np.save(buffer, CIFAR["y_test"])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GIF89a, not a zip", id="not a zip"),
        pytest.param(lone_array(), id="one bare array"),
        pytest.param(packed()[:-100], id="end cut off"),
        pytest.param(packed()[:5000], id="cut in the middle"),
        pytest.param(overwritten(packed(), 3000, b"\x55\xaa" * 50), id="other bytes within"),
        pytest.param(
            overwritten(packed(np.savez_compressed), 500, b"\x55\xaa" * 50),
            id="other bytes within what is compressed",
        ),
        pytest.param(
            overwritten(packed(), packed().index(b"PK\x01\x02") + 10, b"\x63"),
            id="an unknown compression",
        ),
    ],
)
def test_damaged_file_is_a_value_error_that_names_it(folder, content):
    (folder / "cifar10.npz").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        datasets.cifar10()
    assert str(folder / "cifar10.npz") in str(caught.value)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, no copy in Keras's cache, no folder named."""
    monkeypatch.delenv("CLR_DATA_DIR", raising=False)
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))  # As KERAS_HOME.
    closed = dict.fromkeys(("http", "https"), "http://127.0.0.1:9")
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler(closed)))
    yield
    urllib.request.install_opener(None)


def test_neither_network_nor_file_names_both_remedies(offline):
    with pytest.raises(ConnectionError) as caught:
        datasets.cifar10()
    assert "connect to the network" in str(caught.value)
    assert "cifar10.npz" in str(caught.value) and "CLR_DATA_DIR" in str(caught.value)


# A folder of images

CATS, DOGS = range(0, 100, 10), range(150, 200, 10)  # Ten plain cats and five plain dogs, by grey.


@pytest.fixture
def photos(tmp_path):
    """Images whose grey says which one it is."""
    for name, greys in {"cats": CATS, "dogs": DOGS}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for grey in greys:
            save(tmp_path / "photos" / name / f"{grey}.png", np.full((40, 50), grey))
    return tmp_path / "photos"


def save(path, pixels):
    Image.fromarray(np.asarray(pixels, "uint8")).save(path)


def greys(images, mean):
    """The grey of each image, having made sure that it is plain."""
    pixels = (images + mean).reshape(len(images), -1) * 255
    assert np.ptp(pixels, axis=1).max() < 1e-2
    return np.rint(pixels[:, 0]).astype(int).tolist()


def all_greys(data):
    return greys(np.concatenate([data.x_train, data.x_test]), data.mean)


def test_a_folder_is_ready_to_train_on(photos, capsys):
    data = datasets.image_folder(photos)
    assert capsys.readouterr().out == ""
    assert data.x_train.shape == (12, 32, 32, 3) and data.x_test.shape == (3, 32, 32, 3)
    assert (data.name, data.classes, data.flip) == ("photos", ("cats", "dogs"), True)
    assert data.source == (
        "a folder of 15 images, 32x32, of each class 20% to test on, drawn with seed 0"
    )
    for array in (data.x_train, data.y_train, data.x_test, data.y_test, data.mean):
        assert array.dtype == np.float32
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-6)
    assert sorted(all_greys(data)) == [*CATS, *DOGS]
    for images, labels in [(data.x_train, data.y_train), (data.x_test, data.y_test)]:
        assert [grey >= 150 for grey in greys(images, data.mean)] == labels[:, 1].tolist()


def test_arguments_say_size_share_and_mirroring(photos):
    data = datasets.image_folder(
        photos, image_size=[8, 12], validation_split=0.8, seed=3, flip=False
    )
    assert data.x_train.shape == (3, 8, 12, 3) and data.flip is False
    assert data.y_test.sum(axis=0).tolist() == [8, 4]
    assert "8x12" in data.source and "80%" in data.source and "seed 3" in data.source


def test_a_folders_split_is_stable_and_apart_for_each_class(photos):
    def held_out(seed):
        data = datasets.image_folder(photos, seed=seed)
        return greys(data.x_test, data.mean)

    first = [held_out(seed) for seed in range(5)]
    assert [held_out(seed) for seed in range(5)] == first
    assert len({str(split) for split in first}) > 1
    for number in range(5):  # Another number of cats leaves the dogs' split as it was.
        save(photos / "cats" / f"more{number}.png", np.full((4, 4), 100 + number))
    assert [held_out(seed)[-1] for seed in range(5)] == [split[-1] for split in first]


def test_the_folder_that_one_stands_in_has_its_name_too(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert datasets.image_folder(".").name == "photos"


def test_images_of_any_size_and_shape_are_resized(photos):
    save(photos / "cats" / "pixel.png", [[200]])
    save(photos / "cats" / "line.png", np.full((1, 3000), 201))
    save(photos / "dogs" / "large.jpg", np.full((3000, 2000), 202))
    assert {200, 201, 202} < set(all_greys(datasets.image_folder(photos)))


def test_proportions_are_kept_on_request(photos):
    wide = np.full((20, 60), 255)
    wide[:, 20:40] = 120  # Plain in the middle, where a square is cut out.
    for path in photos.rglob("*.png"):
        save(path, wide)
    squeezed = datasets.image_folder(photos)
    assert np.ptp(squeezed.mean) > 0.5
    cut = datasets.image_folder(photos, crop_to_aspect_ratio=True)
    np.testing.assert_allclose(cut.mean, 120 / 255, atol=1e-6)


def test_files_are_found_as_keras_finds_them(photos):
    cats = photos / "cats"
    (cats / "more").mkdir()
    save(cats / "more" / "below.png", np.full((4, 4), 200))
    save(cats / ".hidden.png", np.full((4, 4), 201))
    save(cats / "upper.PNG", np.full((4, 4), 202))
    for number, form in enumerate(["jpg", "jpeg", "bmp", "gif"]):
        save(cats / f"form.{form}", np.full((4, 4), 203 + number))
    (cats / "link.png").symlink_to(cats / "upper.PNG")
    read = [*range(200, 207), 202]
    save(cats / "other.webp", np.full((4, 4), 220))
    (cats / "notes.txt").write_text("Not an image.")
    (photos / "notes.txt").write_text("Not a class.")
    (photos / ".trash").mkdir()
    save(photos / ".trash" / "gone.png", np.full((4, 4), 221))
    elsewhere = photos.parent / "elsewhere"
    elsewhere.mkdir()
    save(elsewhere / "far.png", np.full((4, 4), 222))
    (cats / "linked").symlink_to(elsewhere)
    data = datasets.image_folder(photos)
    assert data.classes == ("cats", "dogs")
    assert sorted(all_greys(data)) == sorted([*CATS, *DOGS, *read])
    followed = datasets.image_folder(photos, follow_links=True)
    assert sorted(all_greys(followed)) == sorted([*CATS, *DOGS, *read, 222])


def test_the_order_is_that_of_the_names(photos):
    data = datasets.image_folder(photos)
    for images, labels in [(data.x_train, data.y_train), (data.x_test, data.y_test)]:
        of_cats = greys(images[labels[:, 0] == 1], data.mean)
        assert labels[:, 1].tolist() == sorted(labels[:, 1])
        assert [f"{grey}.png" for grey in of_cats] == sorted(f"{grey}.png" for grey in of_cats)


def test_what_keras_is_to_do_otherwise_is_passed_on(photos):
    (photos / "birds").mkdir()
    for number in range(4):
        save(photos / "birds" / f"{number}.png", np.full((4, 4), 12))
    data = datasets.image_folder(photos, color_mode="grayscale", class_names=["dogs", "birds"])
    assert data.classes == ("dogs", "birds") and data.x_train.shape[1:] == (32, 32, 1)
    assert sorted(all_greys(data)) == [12] * 4 + [*DOGS]
    assert data.y_train[:, 0].tolist() == [
        float(grey >= 150) for grey in greys(data.x_train, data.mean)
    ]


def test_overshooting_of_an_interpolation_is_cut_off(photos):
    edge = np.repeat([[0] * 8 + [255] * 8], 16, axis=0)
    save(photos / "cats" / "edge.png", edge)
    data = datasets.image_folder(photos, interpolation="bicubic")
    images = np.concatenate([data.x_train, data.x_test]) + data.mean
    assert images.min() >= -1e-6 and images.max() <= 1 + 1e-6


def test_channels_come_last_whatever_keras_is_set_to(photos):
    keras.config.set_image_data_format("channels_first")
    try:
        data = datasets.image_folder(photos)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert data.x_train.shape == (12, 32, 32, 3)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        datasets.image_folder(tmp_path / "nowhere")
    assert "`directory`" in str(caught.value) and str(tmp_path / "nowhere") in str(caught.value)


def test_a_file_is_no_folder(photos):
    with pytest.raises(NotADirectoryError) as caught:
        datasets.image_folder(photos / "cats" / "0.png")
    assert "`directory`" in str(caught.value) and "0.png" in str(caught.value)


def test_a_folder_without_classes(photos):
    with pytest.raises(ValueError, match=r"`directory`.*'cats' with the folders \[\]"):
        datasets.image_folder(photos / "cats")


def test_a_folder_with_a_single_class(photos):
    (photos / "dogs").rename(photos / ".dogs")
    with pytest.raises(ValueError, match=r"at least two.*'photos' with the folders \['cats'\]"):
        datasets.image_folder(photos)


def test_classes_without_images_are_named(photos):
    for name in ("birds", "fish"):
        (photos / name).mkdir()
    (photos / "birds" / "robin.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"\.png.*There is none in birds, fish$"):
        datasets.image_folder(photos)


def test_no_image_at_all(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r"No images found.*\.png"):
        datasets.image_folder(tmp_path)


def photo(form):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype="uint8")).save(buffer, form)
    return buffer.getvalue()


def black_png(width, height):
    """A whole one, of one bit a pixel: it packs well."""
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Not an image.", id="text"),
        pytest.param(photo("JPEG")[:-100], id="JPEG cut off"),
        pytest.param(photo("PNG")[:-100], id="PNG cut off"),
        pytest.param(black_png(0, 5), id="no pixel"),
        pytest.param(black_png(13_500, 13_500), id="182 million pixels"),
        pytest.param(None, id="a link to nowhere"),
    ],
)
@pytest.mark.parametrize("name", ["0.png", "95.jpg", "more/below.gif"])
def test_an_unreadable_file_is_named(photos, name, content):
    path = photos / "cats" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if content is None:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        datasets.image_folder(photos)
    assert str(caught.value).startswith(f"cats/{name} in the folder 'photos' can't be read")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("image_size", 32, ValueError),
        ("image_size", (32, 32, 3), ValueError),
        ("image_size", (32, 0), ValueError),
        ("image_size", (2.5, 32), ValueError),
        ("image_size", "32", ValueError),
        ("image_size", ("32", 32), TypeError),
        ("validation_split", 1.0, ValueError),
        ("validation_split", -0.1, ValueError),
        ("validation_split", float("nan"), ValueError),
        ("validation_split", "0.2", TypeError),
        ("seed", -1, ValueError),
        ("seed", None, TypeError),
    ],
)
def test_a_bad_argument_is_named_before_a_file_is_read(photos, argument, value, error):
    (photos / "cats" / "0.png").write_bytes(b"")
    with pytest.raises(error) as caught:
        datasets.image_folder(photos, **{argument: value})
    assert f"`{argument}`" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.04, 0.99])
def test_too_few_images_to_split(photos, share):
    with pytest.raises(ValueError) as caught:
        datasets.image_folder(photos, validation_split=share)
    assert f"validation_split={share}" in str(caught.value)
    assert "images of class 'cats': 10" in str(caught.value)


def test_a_class_of_one_image_can_not_be_split(photos):
    (photos / "lynx").mkdir()
    save(photos / "lynx" / "only.png", np.full((4, 4), 99))
    with pytest.raises(ValueError, match="images of class 'lynx': 1"):
        datasets.image_folder(photos)


@pytest.fixture
def without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)


def test_without_tensorflow_keras_reads_with_grain(without_tensorflow, photos, monkeypatch):
    grain = types.ModuleType("grain")
    grain.__spec__ = importlib.machinery.ModuleSpec("grain", None)
    monkeypatch.setitem(sys.modules, "grain", grain)
    asked = {}
    monkeypatch.setattr(
        keras.utils, "image_dataset_from_directory", lambda *a, **options: asked.update(options)
    )
    with pytest.raises(AttributeError):  # There is no data set to go on with.
        datasets.image_folder(photos)
    assert asked["format"] == "grain"


def test_with_nothing_to_read_with_the_error_says_what_to_install(
    without_tensorflow, photos, monkeypatch
):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match="pip install grain"):
        datasets.image_folder(photos)


def test_a_folder_is_loaded_by_its_path(photos):
    data = datasets.load(str(photos))
    assert data.name == "photos" and len(data.x_train) == 12


# Augmentation


def ramps(count):
    """Images whose channels are the row and the column of each pixel."""
    rows, columns = np.mgrid[:32, :32].astype("float32")
    return np.repeat(np.stack([rows, columns], axis=-1)[None], count, axis=0)


def augmented(flip, images=None, **options):
    keras.utils.set_random_seed(0)
    layers = datasets.augmentation(flip, **options)
    images = ramps(64) if images is None else images
    return keras.ops.convert_to_numpy(layers(images, training=True))


def test_augmentation_does_nothing_outside_training():
    images = ramps(3)
    for options in ({}, {"crop": True, "cutout": 0.25}):
        layers = datasets.augmentation(**options)
        np.testing.assert_array_equal(layers(images, training=False), images)


def test_a_crop_shifts_by_whole_pixels_up_to_an_eighth_with_0_at_the_edge():
    images = augmented(False, ramps(64) + 100, crop=True)
    shifts = images[:, 16, 16] - 116
    np.testing.assert_allclose(shifts, shifts.round(), atol=1e-4)
    assert set(shifts.round().ravel()) == set(range(-4, 5))
    for image, (down, right) in zip(images, shifts.round().astype(int), strict=True):
        rows, columns = (np.arange(32) + shift for shift in (down, right))
        inside = ((rows >= 0) & (rows < 32))[:, None] & ((columns >= 0) & (columns < 32))
        np.testing.assert_allclose(
            image[..., 0], np.where(inside, rows[:, None] + 100, 0), atol=1e-3
        )


def test_cutout_sets_one_square_of_the_side_asked_for_to_0():
    plain = augmented(False, np.ones((64, 32, 32, 2), "float32"))
    images = augmented(False, np.ones((64, 32, 32, 2), "float32"), cutout=0.25)
    np.testing.assert_allclose(plain, 1, atol=1e-5)  # Shifts repeat the edge.
    corners = set()
    for image in images.round(4):
        rows, columns = np.nonzero(image[..., 0] == 0)
        assert len(rows) == 8 * 8 == (image[..., 1] == 0).sum()
        assert (np.ptp(rows), np.ptp(columns)) == (7, 7)
        assert ((image == 0) | (image == 1)).all()
        corners.add((rows.min(), columns.min()))
    assert len(corners) > 30 and max(map(max, corners)) <= 24


def test_shifts_stay_within_a_tenth_and_repeat_the_edge():
    images = augmented(flip=False)
    pixel = np.arange(32)
    shifts = images[:, 16, 16] - 16  # By image: of rows and of columns.
    assert np.abs(shifts).max() <= 3.2 + 1e-3
    assert np.ptp(shifts, axis=0).min() > 3  # Images move, and differently.
    rows = np.clip(pixel + shifts[:, :1], 0, 31)[:, :, None]
    columns = np.clip(pixel + shifts[:, 1:], 0, 31)[:, None, :]
    np.testing.assert_allclose(images[..., 0], np.broadcast_to(rows, (64, 32, 32)), atol=1e-3)
    np.testing.assert_allclose(images[..., 1], np.broadcast_to(columns, (64, 32, 32)), atol=1e-3)


def test_flips_mirror_about_half_the_images_and_only_if_asked():
    def mirrored(images):
        return images[:, 16, 0, 1] > images[:, 16, 31, 1]

    assert not mirrored(augmented(flip=False)).any()
    flipped = augmented(flip=True)
    assert 0.25 < mirrored(flipped).mean() < 0.75
    assert (flipped[:, 0, 16, 0] < flipped[:, 31, 16, 0]).all()  # None is upside down.


# Batches

X = np.arange(22, dtype="float32").reshape(-1, 1)
Y = 2 * X


def order(batches):
    return [batches[i][0].ravel().tolist() for i in range(batches.num_batches)]


def begun(epoch, seed=5):
    batches = datasets.Batches(X, Y, 4, seed)
    batches.follow().on_epoch_begin(epoch, {})
    return batches


def test_batches_are_full_ones_of_distinct_examples():
    batches = begun(0)
    assert batches.num_batches == 5
    assert [len(batch) for batch in order(batches)] == [4] * 5
    assert len({x for batch in order(batches) for x in batch}) == 20
    x, y = batches[2]
    np.testing.assert_array_equal(y, 2 * x)


def test_every_epoch_has_a_new_order():
    orders = [str(order(begun(epoch))) for epoch in range(6)]
    assert len(set(orders)) == 6


def test_the_seed_alone_decides_the_order():
    assert order(begun(3)) == order(begun(3))
    assert order(begun(3)) != order(begun(3, seed=6))


def test_an_epochs_order_does_not_depend_on_what_was_seen_before():
    batches = begun(0)
    for epoch in (1, 7, 2):
        batches.follow().on_epoch_begin(epoch, {})
    assert order(batches) == order(begun(2))


class Recorder(keras.Sequential):
    """Keeps the batches that `fit` trains it on."""

    def train_step(self, *given):  # On JAX the state comes before the data.
        self.seen.append(keras.ops.convert_to_numpy(given[-1][0]).ravel().tolist())
        return super().train_step(*given)


def fitted(**epochs):
    model = Recorder([keras.Input((1,)), keras.layers.Dense(1)])
    model.seen = []
    model.compile("sgd", "mse", run_eagerly=True)
    batches = datasets.Batches(X / 100, Y, 4, seed=5)
    model.fit(batches, callbacks=[batches.follow()], shuffle=False, verbose=0, **epochs)
    return np.rint(np.array(model.seen) * 100).tolist()


def test_a_resumed_fit_sees_the_batches_of_an_uninterrupted_one():
    whole = fitted(epochs=3)
    assert whole == [batch for epoch in range(3) for batch in order(begun(epoch))]
    assert fitted(initial_epoch=2, epochs=3) == whole[10:]


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (23, ValueError), (2.5, ValueError), ("4", TypeError)]
)
def test_bad_batch_size_is_named(size, error):
    with pytest.raises(error) as caught:
        datasets.Batches(X, Y, size, seed=0)
    assert f"batch_size={size!r}" in str(caught.value)

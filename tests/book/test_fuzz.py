"""Files from strangers, damaged at random: a clear error or a usable result, and never more."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clr import Run, datasets
from clr.range_test import RangeTest
from clr.training.records import RUNS

RUN = (RUNS / "cifar10" / "triangular-seed-42.json").read_bytes()
RANGE_TEST = (
    Path(__file__).parents[1] / "support" / "written_before" / "range_test.json"
).read_bytes()
VALUES = (None, True, 0, -1, 1e308, float("nan"), "", "text", [], {}, [1, "a"], {"a": {}})


def damaged(content: bytes, seed: int) -> bytes:
    """Some bytes changed, cut out or put in."""
    chance, spoiled = random.Random(seed), bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(spoiled) + 1)
        length = chance.choice((0, 1, 1, 4, 64, len(spoiled)))
        spoiled[at : at + length] = chance.randbytes(chance.choice((0, 1, 1, 4, 16)))
    return bytes(spoiled)


def altered(content: bytes, seed: int) -> bytes:
    """Still JSON, with one value somewhere in it exchanged, or its key removed."""
    chance, values = random.Random(seed), json.loads(content)
    holder = values
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = chance.choice(list(keys))
        if isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.8:
            holder = holder[key]
            continue
        if isinstance(holder, dict) and chance.random() < 0.3:
            del holder[key]
        else:
            holder[key] = chance.choice(VALUES)
        return json.dumps(values).encode()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("strange") / "strange.json"


seeds = given(seed=st.integers(0, 2**32), spoil=st.sampled_from((damaged, altered)))


@seeds
def test_a_runs_file(path, seed, spoil):
    path.write_bytes(spoil(RUN, seed))
    try:
        run = Run.load(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    run.provenance(), run.classification_report(), run.rates()


@seeds
def test_a_range_tests_file(path, seed, spoil):
    path.write_bytes(spoil(RANGE_TEST, seed))
    try:
        result = RangeTest.from_json(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    repr(result), result.smoothed, result.to_json()


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_a_file_nested_beyond_all_measure(path, depth):
    path.write_text('{"format": "clr-run/1", "history": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(ValueError, match="is not a run"):
        Run.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLR_DATA_DIR", str(folder))
        yield folder


def archive() -> bytes:
    """Twenty images."""
    images = np.arange(20 * 32 * 32 * 3, dtype="uint8").reshape(20, 32, 32, 3)
    labels = np.arange(20, dtype="uint8") % 10
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10]
    )
    return buffer.getvalue()


ARCHIVE = archive()


@given(seed=st.integers(0, 2**32))
def test_an_archive_of_images(folder, seed):
    (folder / "cifar10.npz").write_bytes(damaged(ARCHIVE, seed))
    try:
        data = datasets.cifar10()
    except ValueError:
        return
    assert data.x_train.shape[1:] == (32, 32, 3) and len(data.x_train) == len(data.y_train)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of two images each, and the first image of one in every format."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(256, size=(4, 12, 16, 3), dtype="uint8")
    for number, pixels in enumerate(noise):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    formats = {}
    for ending in ("png", "jpeg", "gif", "bmp"):
        buffer = io.BytesIO()
        Image.fromarray(noise[0]).save(buffer, ending)
        formats[ending] = buffer.getvalue()
    (folder / "a" / "0.png").unlink()
    return folder, formats


@given(seed=st.integers(0, 2**32), ending=st.sampled_from(("png", "jpeg", "gif", "bmp")))
def test_an_image_in_a_folder(photos, seed, ending):
    folder, formats = photos
    path = folder / "a" / f"0.{ending}"
    path.write_bytes(damaged(formats[ending], seed))
    try:
        data = datasets.image_folder(folder, image_size=(8, 8), validation_split=0.5)
    except ValueError as error:
        assert f"a/0.{ending}" in str(error)
        return
    finally:
        path.unlink()
    assert data.x_train.shape == data.x_test.shape == (2, 8, 8, 3)
    assert np.isfinite(data.x_train).all()

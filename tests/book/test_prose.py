"""The code in the README and among the questions and answers runs as it stands there."""

import math
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import clr

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from pictures import example  # noqa: E402

keras = pytest.importorskip("keras")


def blocks(path: Path) -> list[tuple[int, str]]:
    """Each block of Python in a page, with its line."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: found.start()].count("\n") + 2, found[1])
        for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def run(code: str, page: str, line: int, names: dict) -> None:
    """Executes a block so that a traceback names the page and the line."""
    exec(compile("\n" * (line - 1) + code, page, "exec"), names)


def test_the_readmes_example_is_ten_lines_and_draws_its_picture():
    code = example((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names: dict = {}
    exec(code, names)
    rates = names["cycle"].history["lr"]
    # The picture beside it shows whole cycles of `triangular2`: four, each half as high.
    assert len(rates) == 4 * names["cycle"].policy.cycle_length
    assert plt.gca().get_xlabel() == "iteration (batches)"
    plt.close("all")


@pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")
def test_the_answers_code_runs(tmp_path, monkeypatch):
    page = ROOT / "book" / "faq.md"
    found = blocks(page)
    assert len(found) >= 10
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos")
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 8)).astype("float32")
    y = np.eye(3, dtype="float32")[random.integers(3, size=96)]
    names = {"x": x, "y": y, "model": classifier()}
    for line, code in found:
        if "photos" in code:  # This one makes a model of its own, for images.
            before, names["model"] = names["model"], None
            run(code, page.name, line, names)
            names["model"] = before
        else:
            run(code, page.name, line, names)
    plt.close("all")


@pytest.mark.filterwarnings("ignore:Training will stop")
@pytest.mark.parametrize("page", ["migration.md", "cheat_sheet.md"])
def test_the_new_lines_run(page):
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 8)).astype("float32")
    y = np.eye(3, dtype="float32")[random.integers(3, size=96)]
    names: dict = {"x": x, "y": y, "model": classifier(), "math": math}
    names |= {"CyclicLR": clr.CyclicLR, "lr_range_test": learnable}
    found = blocks(ROOT / "book" / page)
    assert found
    for line, code in found:
        run(code, page, line, names)
    plt.close("all")


def learnable(model, x, y, **options):
    """The range test on labels that can be learnt: on the random ones there is nothing to read."""
    y = np.eye(3, dtype="float32")[x[:, :3].argmax(axis=1)]
    return clr.lr_range_test(model, x, y, **options)


def classifier():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    return model


def make_photos(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 255, size=(64, 64, 3))
            keras.utils.save_img(folder / name / f"{number}.png", pixels, scale=False)

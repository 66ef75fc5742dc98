"""The code in the README and among the questions and answers runs as it stands there."""

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
from set_url import parts  # noqa: E402

keras = pytest.importorskip("keras")


def blocks(path: Path) -> list[tuple[int, str]]:
    """Each block of Python in a page, with its line."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: found.start()].count("\n") + 2, found[1])
        for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def run(code: str, page: str, line: int, names: dict) -> None:
    """Executes a block, on a model not yet trained; a traceback names the page and the line."""
    if names.get("model") is not None:
        keras.utils.set_random_seed(0)
        names["model"].set_weights(untrained().get_weights())
    exec(compile("\n" * (line - 1) + code, page, "exec"), names)


def test_the_readmes_example_is_ten_lines_and_draws_its_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    code = example((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names: dict = {}
    exec(code, names)
    assert names["result"].default_method == "trials"
    assert plt.gca().get_xlabel() == "learning rate"
    assert (tmp_path / "range_test.png").stat().st_size > 10_000
    plt.close("all")


def test_the_landing_page_begins_with_the_readmes_installation_and_example():
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "book/intro.md")]
    install, code = (
        [re.search(rf"^```{kind}\n(.*?)^```", page, re.DOTALL | re.MULTILINE) for page in pages]
        for kind in ("sh", "python")
    )
    assert install[0][1] == install[1][1] and code[0][1] == code[1][1]
    assert all(page.index("pip install") < page.index("## ") for page in pages)


def test_the_readme_can_be_read_elsewhere_and_its_links_lead_to_what_is_here():
    """PyPI shows it too, where a relative address leads nowhere."""
    owner, name = parts(ROOT)
    ours = (
        f"https://{owner}.github.io/{name}/",
        f"https://github.com/{owner}/{name}/blob/main/",
        f"https://raw.githubusercontent.com/{owner}/{name}/main/",
        f"https://colab.research.google.com/github/{owner}/{name}/blob/main/",
    )
    found = re.findall(r"\]\((\S+?)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) > 24
    for address in found:
        assert address.startswith("https://"), address
        for start in ours:
            if address.startswith(start):
                path = ROOT / address.removeprefix(start)
                sources = [path, path.with_suffix(".md"), path.with_suffix(".ipynb")]
                assert any(source.exists() for source in sources), address


@pytest.mark.filterwarnings(
    "ignore:Training will stop in mid-cycle",
    "ignore:The loss never rises again",  # In a test this short.
    "ignore:Your input ran out of data",
    "ignore:`shuffle=True` was passed",
)
def test_the_answers_code_runs(tmp_path, monkeypatch):
    page = ROOT / "book" / "faq.md"
    found = blocks(page)
    assert len(found) >= 10
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos")
    names = examples()
    for line, code in found:
        if "photos" in code:  # This one makes a model of its own, for images.
            run(code, page.name, line, names | {"model": None, "lr_range_test": short_test})
        else:
            run(code, page.name, line, names)
    plt.close("all")


@pytest.mark.filterwarnings("ignore:Training will stop")
@pytest.mark.parametrize("page", ["migration.md", "cheat_sheet.md", "intro.md"])
def test_the_new_lines_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = examples() | {"lr_range_test": clr.lr_range_test}
    found = blocks(ROOT / "book" / page)
    assert found
    for line, code in found:
        run(code, page, line, names)
    plt.close("all")


def short_test(model, x):
    """A range test that takes seconds on a network for images."""
    return clr.lr_range_test(model, x, num_steps=20, trials=0, verbose=0)


def examples() -> dict:
    """What the pages say the reader has: a compiled model, and data that can be learnt."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    y = np.eye(3, dtype="float32")[x[:, :3].argmax(axis=1)]
    model = untrained()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return {"x": x, "y": y, "model": model}


def untrained() -> keras.Model:
    """A small model as it is before training."""
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])


def make_photos(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, brightest in (("cats", 255), ("dogs", 64)):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, brightest, size=(64, 64, 3))
            keras.utils.save_img(folder / name / f"{number}.png", pixels, scale=False)

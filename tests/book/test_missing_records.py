"""A copy without records: a chapter says where they can be read, and draws nothing empty."""

import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest

import clr

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["06_which_schedule", "13_performance"])
def test_a_chapter_without_records_says_where_to_read_them(name, tmp_path, monkeypatch):
    monkeypatch.setattr("clr.training.records.RUNS", tmp_path)
    monkeypatch.setattr("clr.training.records.BENCHMARKS", tmp_path)
    monkeypatch.setattr("clr.plots.use_style", lambda: None)
    monkeypatch.setattr("clr.prepare", lambda profile: None)
    monkeypatch.setattr("IPython.display.display", lambda *shown: said.extend(shown))
    monkeypatch.setattr("IPython.display.Markdown", str)
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    said, drawn, names = [], [], {}
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    about_records = next(i for i, cell in enumerate(code) if "elsewhere" in cell.source)
    for i, cell in enumerate(code):
        if not {"colab-setup", "hide-cell"} & set(cell.metadata.get("tags", [])):
            before = len(drawn)
            exec(cell.source, names)
            axes = [ax for figure in drawn[before:] for ax in figure.axes]
            assert i < about_records or all(ax.has_data() for ax in axes), "an empty figure"
    plt.close("all")
    sentences = [text for text in said if "This copy has no" in str(text)]
    assert len(sentences) == 1
    assert f"({clr.records.BOOK}/notebooks/{name}.html)" in sentences[0]


def test_the_address_is_the_repositorys():
    url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    owner, name = url.split("/")[-2:]
    assert f"https://{owner}.github.io/{name}" == clr.records.BOOK

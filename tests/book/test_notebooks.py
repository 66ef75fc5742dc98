"""What every notebook keeps to, so that it runs on Colab, under Papermill and under nbval."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from set_url import parts  # noqa: E402

from clr.plots import COLOURS  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    found = nbformat.read(request.param, as_version=4)
    nbformat.validate(found)
    return found


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(output) -> str:
    """All that an output says in words."""
    data = output.get("data", {})
    texts = [content for kind, content in data.items() if kind.startswith("text/")]
    return "\n".join([output.get("text", ""), *texts])


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_notebook_is_a_chapter_and_every_chapter_is_there():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = {c["file"] for part in contents["parts"] for c in part["chapters"]}
    in_book = {chapter for chapter in chapters if chapter.startswith("notebooks/")}
    assert in_book == {f"notebooks/{path.stem}" for path in NOTEBOOKS}


def test_it_opens_with_its_title_and_the_setup_for_colab(notebook):
    title, setup = notebook.cells[:2]
    assert title.cell_type == "markdown"
    assert re.match(r"# \S", title.source)
    assert tags(setup) >= {"colab-setup", "hide-input"}
    # Colab's own TensorFlow, Keras and NumPy stay as they are.
    assert "--no-deps" in setup.source
    assert f"git+https://github.com/{'/'.join(parts(ROOT))}" in setup.source
    assert sum("colab-setup" in tags(cell) for cell in notebook.cells) == 1


def test_the_setup_is_the_same_everywhere():
    setups = {nbformat.read(path, as_version=4).cells[1].source for path in NOTEBOOKS}
    assert len(setups) == 1


@pytest.mark.parametrize("beside", [True, False])
def test_in_a_clone_a_notebook_uses_the_clone_whatever_is_installed(tmp_path, beside):
    setup = nbformat.read(NOTEBOOKS[0], as_version=4).cells[1].source
    (tmp_path / "notebooks").mkdir()
    if beside:
        (tmp_path / "clr").mkdir()
        for name in ("__init__.py", "policies.py"):
            (tmp_path / "clr" / name).touch()
    found = f"{setup}\nprint(importlib.util.find_spec('clr').origin)"
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "-c", found],
        cwd=tmp_path / "notebooks",
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # The other version.
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str((tmp_path if beside else ROOT) / "clr" / "__init__.py")]


def test_it_has_one_cell_of_parameters_with_the_profile(notebook):
    (parameters,) = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    assert re.search(r'^PROFILE = "auto"', parameters.source, re.MULTILINE)
    assert notebook.cells.index(parameters) <= 3, "before anything is computed"


def test_the_machine_is_made_ready_before_anything_is_computed(notebook):
    (ready,) = [i for i, cell in enumerate(code(notebook)) if "clr.prepare(PROFILE)" in cell.source]
    assert ready == 2, "with the imports, after the parameters"


def test_it_was_executed_whole_and_in_order(notebook):
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "make refresh executes it"


def test_it_has_outputs_that_nbval_compares(notebook):
    checked = [cell for cell in notebook.cells if "nbval-check-output" in tags(cell)]
    assert checked
    for cell in checked:
        # nbval never compares a cell without a count, and finds no fault where there's no output.
        assert cell.execution_count is not None
        assert cell.outputs, cell.source


def test_no_output_is_an_error_or_noise_and_none_shows_this_machine(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            found = re.search(r"/(?:home|root|tmp|usr|work|Users)/\S+|[A-Z]:\\\S+", text_of(output))
            assert not found, f"{cell.source}\nshows {found}"


def test_nothing_of_the_execution_is_left_but_outputs(notebook):
    assert "papermill" not in notebook.metadata
    for cell in notebook.cells:
        assert "injected-parameters" not in tags(cell)
        assert not {"papermill", "execution"} & set(cell.metadata)


def test_its_figures_have_alternative_text_and_a_caption(notebook):
    for cell in code(notebook):
        if any("image/svg+xml" in output.get("data", {}) for output in cell.outputs):
            rendering = cell.metadata.get("mystnb", {})
            assert rendering.get("image", {}).get("alt"), cell.source
            assert rendering.get("figure", {}).get("caption"), cell.source


def legend(svg: str) -> list[tuple[str, str]]:
    """The labels of a figure's legends, each with its line's colour."""
    found, colour = [], ""
    for part in re.findall(r'<g id="legend_\d+">.*?(?=<g id="axes_\d+">|</svg>)', svg, re.S):
        for stroke, label in re.findall(r"stroke: (#\w{6})|<!-- (.*?) -->", part):
            colour = stroke or colour
            found += [(label, colour)] if label else []
    return found


def test_a_line_that_is_named_after_a_method_has_its_colour(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            for label, colour in legend(output.get("data", {}).get("image/svg+xml", "")):
                words = re.findall(r"\w+", re.sub(r"one[ -]cycle", "one_cycle", label))
                named = [method for method in COLOURS if method in words]
                if len(named) == 1:
                    assert colour == COLOURS[named[0]], label


def test_it_closes_with_a_take_away_an_exercise_and_a_folded_solution(notebook):
    text = [cell.source for cell in notebook.cells]

    def place(pattern):
        return max(i for i, source in enumerate(text) if re.search(pattern, source, re.MULTILINE))

    folded = [i for i, cell in enumerate(notebook.cells) if "hide-cell" in tags(cell)]
    folded += [i for i, source in enumerate(text) if "{dropdown}" in source]
    assert place(r"\{admonition\} Take-away") <= place(r"^## Exercise") < max(folded)


def test_it_ends_by_saying_how_it_was_made(notebook):
    assert "made_with(" in notebook.cells[-1].source
    assert any("quick" in text_of(output) for output in notebook.cells[-1].outputs)


def test_no_cell_is_longer_than_a_screen(notebook):
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 40, cell.source

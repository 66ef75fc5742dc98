"""That a chapter refuses a parameter that is wrong where it enters, and names it."""

import ast
from pathlib import Path

import nbformat
import pytest

import clr

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
WRONG = [
    ("01", "NUM_STEPS", "many"),
    ("01", "NUM_STEPS", 0),
    ("01", "MAX_LR", 0.001),
    ("02", "NUM_EPOCHS", "8"),
    ("04", "EPOCHS", "12"),
    ("05", "DRIVE", "yes"),
    ("05", "OUTPUT", 5),
    ("05", "RUN_DIR", True),
    ("06", "SEEDS", 1),
    ("06", "NEAR", "1"),
    ("06", "STATED", {"triangular": 92}),
    ("07", "NETWORKS", 1),
    ("07", "LONG", 2.5),
    ("08", "FOLDER", 5),
    ("08", "NUM_EPOCHS", "8"),
    ("09", "SEEDS", 1),
    ("09", "NUM_EPOCHS", 0),
    ("09", "MAX_LR", 0.001),
    ("10", "CONFIDENCE", 95),
    ("10", "CONFIDENCE", 0),
    ("10", "CONFIDENCE", "0.95"),
    ("11", "MYSTERY", -1),
    ("12", "REPEATS", "7"),
]


def first_cells(chapter: str) -> tuple[str, str]:
    """A chapter's cell of parameters, and the one after it, less what touches the machine."""
    (path,) = NOTEBOOKS.glob(f"{chapter}_*.ipynb")
    code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    ready = ast.parse(code[2])
    ready.body = [
        statement
        for statement in ready.body
        if not ast.unparse(statement).startswith(
            ("tf.", "cpu", "halves", "clr.prepare", "clr.plots")
        )
    ]
    return code[1], ast.unparse(ready)


@pytest.mark.parametrize(("chapter", "name", "value"), WRONG)
def test_a_wrong_parameter_is_refused_by_its_name(chapter, name, value):
    parameters, ready = first_cells(chapter)
    names = {}
    exec(parameters, names)
    names[name] = value
    with pytest.raises((TypeError, ValueError)) as caught:
        exec(ready, names)
    assert f"`{name.lower()}" in str(caught.value).lower()
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize("chapter", sorted({chapter for chapter, _, _ in WRONG}))
def test_the_parameters_of_the_page_are_right(chapter):
    parameters, ready = first_cells(chapter)
    exec(f"{parameters}\n{ready}", {})


@pytest.mark.parametrize("epochs", [1, 3, 8])
def test_chapter_9_trains_one_cycle_in_any_number_of_epochs(epochs):
    (path,) = NOTEBOOKS.glob("09_*.ipynb")
    (cell,) = [c for c in nbformat.read(path, as_version=4).cells if "def cycle_for" in c.source]
    names = {"NUM_EPOCHS": epochs, "MIN_LR": 0.005, "MAX_LR": 0.05, "x": range(1408), "clr": clr}
    (wanted,) = [s for s in ast.parse(cell.source).body if getattr(s, "name", "") == "cycle_for"]
    exec(ast.unparse(wanted), names)
    assert names["cycle_for"](32).policy.step_size == epochs * 44 // 2

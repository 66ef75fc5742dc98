"""That a chapter refuses a parameter that is wrong where it enters, and names it."""

import ast
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
WRONG = [
    ("01", "NUM_STEPS", "many"),
    ("01", "NUM_STEPS", 0),
    ("01", "MAX_LR", 0.001),
    ("02", "EPOCHS", "12"),
    ("03", "NUM_EPOCHS", "8"),
    ("04", "FOLDER", 5),
    ("04", "NUM_EPOCHS", "8"),
    ("05", "IMAGES", 1),
    ("05", "NUM_EPOCHS", 0),
    ("05", "SEED", "0"),
    ("06", "CONFIDENCE", 95),
    ("06", "CONFIDENCE", 0),
    ("06", "CONFIDENCE", "0.95"),
    ("06", "WORTH", "2"),
    ("07", "DRIVE", "yes"),
    ("07", "OUTPUT", 5),
    ("07", "RUN_DIR", True),
    ("07", "SEEDS", 1),
    ("07", "NEAR", "1"),
    ("07", "STATED", {"triangular": 92}),
    ("08", "NETWORKS", 1),
    ("08", "BATCH_SIZE", 1000),
    ("08", "NUM_EPOCHS", 2.5),
    ("09", "SEEDS", 1),
    ("09", "BATCH_SIZE", 1000),
    ("10", "SEEDS", 1),
    ("11", "MYSTERY", -1),
    ("12", "SEEDS", 1),
    ("12", "NUM_EPOCHS", 0),
    ("12", "BATCH_SIZE", 400),  # The larger batch would have more images than there are.
    ("12", "MAX_LR", 0.001),
    ("13", "REPEATS", "7"),
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

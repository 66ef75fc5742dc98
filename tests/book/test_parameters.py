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
    ("02", "NUM_EPOCHS", "8"),
    ("04", "EPOCHS", "12"),
    ("05", "DRIVE", "yes"),
    ("05", "OUTPUT", 5),
    ("05", "RUN_DIR", True),
    ("05", "SEEDS", 1),
    ("05", "NEAR", "1"),
    ("05", "STATED", {"triangular": 92}),
    ("07", "NETWORKS", 1),
    ("07", "BATCH_SIZE", 1000),
    ("07", "NUM_EPOCHS", 2.5),
    ("08", "FOLDER", 5),
    ("08", "NUM_EPOCHS", "8"),
    ("09", "SEEDS", 1),
    ("09", "NUM_EPOCHS", 0),
    ("09", "BATCH_SIZE", 400),  # The larger batch would have more images than there are.
    ("09", "MAX_LR", 0.001),
    ("10", "CONFIDENCE", 95),
    ("10", "CONFIDENCE", 0),
    ("10", "CONFIDENCE", "0.95"),
    ("10", "WORTH", "2"),
    ("11", "MYSTERY", -1),
    ("12", "REPEATS", "7"),
    ("13", "IMAGES", 1),
    ("13", "NUM_EPOCHS", 0),
    ("13", "SEED", "0"),
    ("14", "SEEDS", 1),
    ("14", "BATCH_SIZE", 1000),
    ("15", "SEEDS", 1),
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

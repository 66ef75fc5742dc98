"""The import rule of the code tour, and that the tour's tables show the package as it is."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLR = ROOT / "clr"
TOUR = (ROOT / "book" / "tour.md").read_text("utf-8")
FILES = {
    path.relative_to(CLR).as_posix(): path
    for path in sorted(CLR.rglob("*.py"))
    if path != CLR / "__init__.py"  # The face of all: it may import everything.
}
FOLDERS = sorted({name.split("/")[0] for name in FILES if "/" in name})


def rows(heading: str) -> list[list[str]]:
    """The rows of the tour's table that begins with this line."""
    table = TOUR.split(f"\n{heading}\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[1:]]


def named(cell: str) -> str:
    return re.fullmatch(r"`([\w.]+)/?`", cell)[1]


def groups() -> dict[str, int]:
    """The group of each file or folder directly in the package, from the first on."""
    found, number = {}, -1
    for group, name, _ in rows("| group | file | what it holds |"):
        number += bool(group)
        found[named(name).removesuffix(".py")] = number
    return found


def module(name: str) -> str:
    """`range_test/__init__.py` is `range_test`, `range_test/rising.py` is `range_test.rising`."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module(name) for name in FILES}


def imported(name: str, path: Path) -> set[str]:
    """The package's modules that a file imports anywhere: in functions, for types alone, ..."""
    found = set()
    # Of its own folder and of the package; what another folder offers, it offers in its face.
    open_to_it = {"clr", f"clr.{name.split('/')[0]}"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: a relative import"
            # `from clr import checks` names a module, `from clr.checks import rate` what is in one.
            both = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [
                n
                if n.removeprefix("clr.") in MODULES and node.module in open_to_it
                else node.module
                for n in both
            ]
        else:
            continue
        found |= {n.removeprefix("clr.") for n in names if n == "clr" or n.startswith("clr.")}
    return found


IMPORTS = {module(name): imported(name, path) for name, path in FILES.items()}


def top(module: str) -> str:
    return module.split(".")[0]


def test_the_tour_names_every_file_and_no_other():
    assert sorted(groups()) == sorted({top(m) for m in MODULES})
    for folder in FOLDERS:
        told = [named(cell) for cell, _ in rows(f"| `{folder}/` | what it holds |")]
        inside = [n.split("/")[1] for n in FILES if n.startswith(f"{folder}/")]
        assert sorted(told) == sorted(set(inside) - {"__init__.py"})


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_imports_from_its_own_group_and_those_above_it(module):
    group = groups()
    for other in IMPORTS[module]:
        assert other != "clr", f"{module} imports from the package's face, which imports all"
        assert group[top(other)] <= group[top(module)], f"{module} imports {other}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_outside_a_folder_only_its_face_is_imported(module):
    for other in IMPORTS[module]:
        assert "." not in other or top(other) == top(module), f"{module} imports {other}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_in_a_folder_a_file_imports_those_above_it(folder):
    order = [named(cell) for cell, _ in rows(f"| `{folder}/` | what it holds |")]
    place = {f"{folder}.{name.removesuffix('.py')}": i for i, name in enumerate(order)}
    for one in place:
        inside = {other for other in IMPORTS[one] if top(other) == folder}
        assert folder not in inside, f"{one} imports its own folder's face"
        assert all(place[other] < place[one] for other in inside), f"{one} imports {inside}"


def test_there_is_no_circle():
    list(TopologicalSorter(IMPORTS).static_order())  # Raises CycleError.


def test_the_formulas_need_numpy_and_the_checks_alone():
    tree = ast.parse((CLR / "policies.py").read_text("utf-8"))
    used = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert used <= {"itertools", "math", "numpy"}
    assert IMPORTS["policies"] == {"checks"}


def test_figures_are_drawn_from_what_they_are_given():
    assert IMPORTS["plots"] <= {"policies"}


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_longer_than_400_lines(name):
    assert len(FILES[name].read_text("utf-8").splitlines()) <= 400

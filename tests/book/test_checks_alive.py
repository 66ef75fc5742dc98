"""The checks can fail: each is shown the fault it is there to find, on a copy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output
from small_book import ROOT, make, make_small_book, write_notebook


@pytest.fixture
def book(tmp_path) -> Path:
    return make_small_book(tmp_path / "book")


def nbval(notebook: Path) -> subprocess.CompletedProcess:
    """Tests a notebook with the very options that `make test` gives."""
    options = re.findall(r"--nbval\S+(?: tests/\S+)?", (ROOT / "Makefile").read_text())
    assert options, "the Makefile calls nbval no more"
    words = [word for option in options for word in option.split()]
    words = [str(ROOT / word) if word.startswith("tests/") else word for word in words]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [*command, "-c", os.devnull, f"--rootdir={notebook.parent}", *words, str(notebook)],
        cwd=notebook.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_notebook_whose_stored_output_is_right_passes(tmp_path):
    write_notebook(tmp_path / "right.ipynb")
    assert nbval(tmp_path / "right.ipynb").returncode == 0


def test_a_tampered_stored_output_is_found(tmp_path):
    write_notebook(tmp_path / "tampered.ipynb", stored="43\n")
    done = nbval(tmp_path / "tampered.ipynb")
    assert done.returncode == 1
    assert "43" in done.stdout


def test_a_cell_that_raises_is_found_by_nbval(tmp_path):
    write_notebook(tmp_path / "raising.ipynb", source="1 / 0")
    done = nbval(tmp_path / "raising.ipynb")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout


def test_an_address_may_differ(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "print(hex(id(PROFILE)))", stored="0x7f00deadbeef\n")
    assert nbval(tmp_path / "a.ipynb").returncode == 0


def test_a_cell_that_raises_stops_the_build_and_leaves_the_old_result(book):
    result = book / "_build/src/notebooks/one.ipynb"
    assert make(book, str(result.relative_to(book))).returncode == 0
    old = result.read_bytes()

    write_notebook(book / "notebooks/one.ipynb", source="raise RuntimeError('on purpose')")
    for _ in range(2):  # And again when repeated.
        done = make(book, "book")
        assert done.returncode != 0
        assert "notebooks/one.ipynb failed" in done.stderr
        assert "RuntimeError: on purpose" in done.stderr
        assert result.read_bytes() == old
    assert not (book / "_build/site").exists()
    left = {path.name for path in result.parent.iterdir()}
    assert left <= {"one.ipynb", "two.ipynb"}, "rubbish left behind"


FAULTS = {  # What a page may say, and what names the fault.
    "{ref}`nowhere`": "undefined label: 'nowhere'",
    "{cite}`nobody1900`": "nobody1900",
    "{py:class}`clr.Nothing`": "clr.Nothing",
    "[to](no_page.md)": "no_page.md",
}


def test_a_broken_reference_turns_the_strict_build_red(book):
    # Without chapters, for speed: what is tried is the rendering.
    for notebook in (book / "notebooks").iterdir():
        notebook.unlink()
    (book / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    page = book / "book" / "intro.md"
    page.write_text("# A small book\n\n" + "".join(f"See {fault}.\n\n" for fault in FAULTS))
    for _ in range(2):  # A failing build must fail when repeated, too.
        done = make(book, "book")
        assert done.returncode != 0, done.stdout
        said = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line]
        for fault in FAULTS.values():
            assert any("intro.md" in line and fault in line for line in said), (fault, said)
        assert not (book / "_build/site").exists()


def test_refreshing_leaves_nothing_of_the_execution_but_outputs(book):
    notebook = book / "notebooks" / "one.ipynb"
    write_notebook(
        notebook,
        source="import os, sys\nprint(os.getcwd())\nprint('noise', file=sys.stderr)\n"
        "os.write(2, b'more noise')\nprint(PROFILE, os.environ['CLR_PROFILE'])",
    )
    before = nbformat.read(notebook, as_version=4)
    (book / "tools" / "pictures.py").write_text("")
    done = make(book, "refresh")
    assert done.returncode == 0, done.stderr
    after = nbformat.read(notebook, as_version=4)
    assert [c.source for c in after.cells] == [c.source for c in before.cells]
    assert [c.metadata for c in after.cells] == [c.metadata for c in before.cells]
    assert set(after.metadata) == {"kernelspec", "language_info"}
    assert after.cells[-1].outputs == [
        new_output("stream", name="stdout", text="./notebooks\nauto quick\n")
    ]

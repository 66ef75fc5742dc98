"""What `make book` promises, tried on a small copy of the project."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from small_book import make, make_small_book


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = make_small_book(tmp_path_factory.mktemp("flow") / "a book")
    before = contents(folder)
    done = make(folder, "book")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(executed(done)) == ["notebooks/one.ipynb", "notebooks/two.ipynb"]
    assert contents(folder) == before, "the build wrote to the source tree"
    return folder


def contents(folder: Path) -> dict[str, str]:
    """The source tree, as hashes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in ("notebooks", "book", "tools", "clr", "_config.yml", "_toc.yml")
        for path in ([folder / top] if (folder / top).is_file() else (folder / top).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def executed(done) -> list[str]:
    """The notebooks that make executed, or with -n would execute."""
    return re.findall(r"^\S+ tools/execute\.py (\S+)", done.stdout, re.MULTILINE)


def touch(path: Path) -> None:
    """As an editor does, even where the clock is coarse."""
    later = time.time() + 2
    os.utime(path, (later, later))


def test_a_book_is_rendered_and_opens_at_its_index(built):
    assert "intro" in (built / "_build/site/index.html").read_text()
    assert "42" in (built / "_build/site/notebooks/one.html").read_text()


def test_a_second_make_book_does_nothing(built):
    started = time.perf_counter()
    done = make(built, "book")
    assert time.perf_counter() - started < 5
    assert done.stdout.splitlines() == ["The book is in _build/site/index.html"]


def test_touching_one_notebook_executes_only_that_one(built):
    notebook = built / "notebooks/two.ipynb"
    now = notebook.stat().st_mtime
    touch(notebook)
    done = make(built, "-n", "book")
    os.utime(notebook, (now, now))
    assert executed(done) == ["notebooks/two.ipynb"]


@pytest.mark.parametrize(
    "changed",
    [
        *("clr/__init__.py", "clr/range_test/__init__.py", "clr/runs/study/run.json"),
        *("requirements.txt", "tools/execute.py"),
    ],
)
def test_what_all_notebooks_rest_on_has_all_of_them_executed(built, changed):
    now = (built / changed).stat().st_mtime
    touch(built / changed)
    done = make(built, "-n", "book")
    os.utime(built / changed, (now, now))
    assert sorted(executed(done)) == ["notebooks/one.ipynb", "notebooks/two.ipynb"]


def test_a_page_that_changed_has_the_site_rendered_and_nothing_executed(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "book", symlinks=True)
    page = folder / "book" / "intro.md"
    page.write_text(page.read_text() + "\nOne sentence more.\n")
    done = make(folder, "book")
    assert done.returncode == 0, done.stderr
    assert executed(done) == []
    assert "One sentence more." in (folder / "_build/site/book/intro.html").read_text()
    # And a notebook that went takes its page along.
    (folder / "notebooks" / "two.ipynb").unlink()
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/one\n"
    )
    done = make(folder, "book")
    assert done.returncode == 0, done.stderr
    assert not (folder / "_build/src/notebooks/two.ipynb").exists()
    assert not (folder / "_build/site/notebooks/two.html").exists()


def test_every_target_is_listed_by_help(built):
    makefile = (built / "Makefile").read_text()
    (phony,) = [line for line in makefile.splitlines() if line.startswith(".PHONY:")]
    targets = set(phony.split()[1:]) - {"FORCE"}
    assert {line.split()[1] for line in make(built).stdout.splitlines()} == targets


@pytest.mark.parametrize("missing", ["notebooks/two", "book/intro"])
def test_a_page_without_a_place_in_the_table_of_contents_is_named(built, missing):
    toc = built / "_toc.yml"
    before, sources = toc.read_text(), contents(built)
    toc.write_text(before.replace(missing, "notebooks/one"))
    done = make(built, "book")
    toc.write_text(before)
    assert done.returncode != 0
    assert f"{missing} is not in _toc.yml: add the line '- file: {missing}'" in done.stderr
    assert executed(done) == [] and "jupyter-book" not in done.stdout  # Said before any work.
    assert contents(built) == sources


def test_a_read_only_folder_is_refused_with_the_remedy(built):
    done = make(built, "WRITABLE=", "book")
    assert done.returncode != 0 and "Copy it, and call make there" in done.stderr
    assert make(built, "WRITABLE=", "help").returncode == 0


def test_an_unfit_python_is_refused_with_the_remedy(built):
    old = built / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    touch(built / "requirements.txt")
    # Without the -o of `make()`, for the environment's own rule is what is tried.
    done = subprocess.run(
        ["make", "VENV=fresh", "PYTHON=./old-python", "fresh/.requirements"],
        cwd=built,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "make PYTHON=python3.12" in done.stdout
    assert not (built / "fresh").exists()

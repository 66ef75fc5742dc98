"""A copy of the project, small enough to build in seconds, to try the flow and break things."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = ("notebooks/one", "notebooks/two")


def make_small_book(folder: Path) -> Path:
    """Copies the flow (Makefile, tools, configuration) and adds two tiny notebooks and a page."""
    folder.mkdir()
    for name in ("Makefile", "_config.yml", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    for name in ("tools", "book/_ext", "book/_static"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / ".venv").symlink_to(sys.prefix)
    for package in ("clr", "clr/range_test"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "clr" / "runs" / "study").mkdir(parents=True)
    (folder / "clr" / "runs" / "study" / "run.json").write_text("{}\n")
    (folder / "book" / "intro.md").write_text("# A small book\n\n{doc}`/notebooks/one`\n")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n"
        + "".join(f"  - file: {chapter}\n" for chapter in CHAPTERS)
    )
    (folder / "notebooks").mkdir()
    for chapter in CHAPTERS:
        write_notebook(folder / f"{chapter}.ipynb")
    return folder


def write_notebook(path: Path, source: str = "print(6 * 7)", stored: str = "42\n") -> None:
    """Writes a notebook with one checked cell and its stored output."""
    cells = [
        new_markdown_cell("# A small chapter"),
        new_code_cell('PROFILE = "auto"', execution_count=1, metadata={"tags": ["parameters"]}),
        new_code_cell(
            source,
            execution_count=2,
            metadata={"tags": ["nbval-check-output"]},
            outputs=[new_output("stream", name="stdout", text=stored)],
        ),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def make(folder: Path, *targets: str) -> subprocess.CompletedProcess:
    """Runs make in the copy, with the environment that runs this test in place of a new one."""
    # As a reader's shell would call it: an outer `make test` must not lend its flags.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "-o", ".venv/.package", "-o", ".venv/.requirements", *targets],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

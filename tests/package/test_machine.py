"""Which commit a run records: this repository's, or none."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    command = ["git", *who, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def committed(folder: Path) -> str:
    """Makes a repository of a folder, and returns its one commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All of it")
    return git(folder, "rev-parse", "HEAD").strip()


def recorded(folder: Path) -> str | None:
    """The commit that a run would record, with the package in this folder."""
    path = folder / "clr" / "training" / "machine.py"
    spec = importlib.util.spec_from_file_location("machine_of_a_copy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.commit()


def copy(folder: Path, *, with_project: bool = True) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "clr", folder / "clr", ignore=ignored)
    if with_project:
        shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_a_clone_records_its_own_commit(tmp_path):
    clone = copy(tmp_path / "clone")
    head = committed(clone)
    assert recorded(clone) == head


def test_what_a_hook_of_another_repository_tells_git_changes_nothing(tmp_path, monkeypatch):
    archive, other = copy(tmp_path / "archive"), tmp_path / "other"
    shutil.copytree(archive, other)
    committed(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert recorded(archive) is None


@pytest.mark.parametrize("place", [".", "vendored", ".venv/lib/site-packages"])
@pytest.mark.parametrize("with_project", [True, False])
def test_inside_another_projects_repository_none_is_recorded(tmp_path, place, with_project):
    if place == "." and with_project:
        pytest.skip("that is a clone")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text('[project]\nname = "another"\n')
    folder = tmp_path / "project" / place
    folder.mkdir(parents=True, exist_ok=True)
    copy(folder, with_project=with_project)
    committed(tmp_path / "project")
    assert recorded(folder) is None


def test_a_source_archive_without_git_records_none(tmp_path):
    assert recorded(copy(tmp_path / "archive")) is None


def test_importing_the_package_starts_no_process():
    program = """
import subprocess
import keras, matplotlib.pyplot  # What they do is theirs.

def refuse(*_, **__):
    raise SystemExit("a process was started")

subprocess.Popen.__init__ = refuse
import clr
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""What a guest installs: the wheel holds the package, its types and what was recorded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

import clr

ROOT = Path(__file__).resolve().parents[2]
RECORDED = sorted((ROOT / "clr").rglob("*.json"))
IMPORT = """
import sys
from pathlib import Path
import clr
for name in clr.__all__:
    getattr(clr, name)
from clr import checks, files, optimizers, range_test, training
for face in (clr.datasets, range_test, training):
    for name in face.__all__:
        getattr(face, name)
import clr.__main__
import clr.training.records as records
from importlib.metadata import version
assert clr.__version__ == version("keras-clr")
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "clr":
        assert Path(module.__file__).is_relative_to(sys.argv[1]), f"{name} is from elsewhere"
"""
FIND = """
import json
import clr
folder = clr.records.BENCHMARKS
paths = [path.relative_to(folder) for path in folder.rglob("*.json")]
names = [path.as_posix().removesuffix(".json") for path in paths]
benchmarks = {name: len(clr.recorded_benchmark(name)["versions"]) for name in names}
print(json.dumps({"runs": sorted(clr.recorded("*/*")), "benchmarks": benchmarks}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the tracked files and unpacked into an empty folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    tracked = subprocess.run(
        ["git", "ls-files", "clr", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    if not tracked:
        pytest.skip("no git here to list the project's files")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--target", str(target), str(source)),
        ],
        check=True,
    )
    return target


def run_there(installed: Path, program: str) -> str:
    """Returns what a program prints where the wheel, and no clone, is on the path."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(installed)],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(notebook: Path, package: Path, folder: Path) -> list[dict]:
    """Executes a chapter in an empty folder with the package from there; returns what it shows."""
    content = nbformat.read(notebook, as_version=4)
    # Not Colab's cell: the package is here.
    content.cells = [c for c in content.cells if "colab-setup" not in c.metadata.get("tags", [])]
    content.cells.append(nbformat.v4.new_code_cell("print(clr.__file__)"))
    environment = os.environ | {"PYTHONPATH": str(package), "CLR_PROFILE": "quick"}
    environment.pop("MPLBACKEND", None)  # It would take the figures out.
    client = NotebookClient(
        content,
        timeout=300,
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,  # On a busy machine one print may come in two parts.
    )
    client.execute(env=environment)
    *cells, last = [cell.outputs for cell in content.cells if cell.cell_type == "code"]
    assert Path(last[0].text.strip()).is_relative_to(package)
    found = [output for outputs in cells for output in outputs if output.get("name") != "stderr"]
    return [dict(o.get("data") or {"text": o.text}) for o in found]


def test_a_chapter_shows_there_what_it_shows_in_the_clone(installed, tmp_path):
    chapter = ROOT / "notebooks" / "06_which_schedule.ipynb"
    there = shown(chapter, installed, tmp_path)
    assert any("image/svg+xml" in output for output in there)
    assert there == shown(chapter, ROOT, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tag", ["v0.1.0", "v0.2.0"])
def test_a_release_whose_tag_is_another_version_is_refused(tag, tmp_path):
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    (step,) = [s for s in steps["build"]["steps"] if s.get("name") == "The tag is the version"]
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "keras_clr-0.1.0-py3-none-any.whl").touch()
    environment = os.environ | {"TAG": tag}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment)
    assert done.returncode == (0 if tag == "v0.1.0" else 1)


def test_every_file_of_the_package_is_in_the_wheel(installed):
    def files(folder: Path) -> set[str]:
        found = (path.relative_to(folder) for path in (folder / "clr").rglob("*"))
        return {path.as_posix() for path in found if path.suffix in (".py", ".typed", ".json")}

    assert files(installed) == files(ROOT)
    assert "clr/py.typed" in files(installed)


def test_every_public_name_is_imported_from_it(installed):
    assert run_there(installed, IMPORT) == ""


def test_every_recorded_run_and_benchmark_is_found_in_it(installed):
    found = json.loads(run_there(installed, FIND))
    assert found["runs"] == sorted(clr.recorded("*/*")) != []
    names = {
        p.relative_to(ROOT / "clr" / "benchmarks") for p in RECORDED if "benchmarks" in p.parts
    }
    assert set(found["benchmarks"]) == {n.as_posix().removesuffix(".json") for n in names} != set()

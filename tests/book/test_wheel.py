"""What a guest installs: the wheel holds the whole package, its subfolders and its types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "clr":
        assert Path(module.__file__).is_relative_to(sys.argv[1]), f"{name} is from elsewhere"
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


def test_every_file_of_the_package_is_in_the_wheel(installed):
    def files(folder: Path) -> set[str]:
        found = (path.relative_to(folder) for path in (folder / "clr").rglob("*"))
        return {path.as_posix() for path in found if path.suffix in (".py", ".typed")}

    assert files(installed) == files(ROOT)


def test_every_public_name_is_imported_from_it(installed):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(installed)],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

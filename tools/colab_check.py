"""Executes the notebooks as a fresh Colab runtime does: all of them, or those named.

    python tools/colab_check.py
    python tools/colab_check.py 03_policies 13_performance

The environment, in _build/colab, has Colab's versions of the libraries and no `clr`. Each notebook
lies alone in an empty folder, and its setup cell installs the package from the repository's URL;
Git is told that this means a repository of the working tree as it is. Every record of the working
tree must come with the package, so that a chapter shows what it shows in a clone. Nothing can come
from an index of packages but what builds ours: whatever else a notebook needs, Colab must have.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tools" / "colab.txt"
PYTHONS = ("3.13", "3.12")  # Colab's, else the one that it had before.
CELL_SECONDS = 900
# What the shell may say and a fresh runtime does not. Git's would aim at the project's repository.
NOT_ON_COLAB = re.compile("GIT_.*|CLR_.*|KERAS_.*|MPLBACKEND|PYTHONPATH|VIRTUAL_ENV")


class Unreachable(Exception):
    """The index of packages can't be reached, so there is no environment."""


@dataclass
class Result:
    """How a notebook fared.

    Attributes:
        notebook: Its name.
        seconds: Wall time, installation included.
        faults: What is wrong, in words; empty if all is well.
    """

    notebook: str
    seconds: float
    faults: list[str]


class Colab:
    """An environment like Colab's, and the project's repository to install from.

    Args:
        root: The project.
        folder: Where to make them. What is there is used again if it is of the same versions.
        pins: The versions: a list as `pip freeze` writes it, which may have more than is needed.

    Raises:
        Unreachable: There's no network to make the environment with.
        RuntimeError: The environment can't be made of these versions.
    """

    def __init__(self, root: Path, folder: Path, pins: Path = PINS):
        self.root, self.folder = root, folder
        self.python = folder / "env" / "bin" / "python"
        with (root / "pyproject.toml").open("rb") as file:
            project = tomllib.load(file)
        self.package = project["project"]["name"]
        self.url = project["project"]["urls"]["Repository"]
        self._make_environment(pins, project["build-system"]["requires"])
        self.installed = f"{self.package} @ git+{self.url}@{self._commit()}"

    def check(self, notebook: Path) -> Result:
        """Executes a notebook in a folder of its own and looks at what that did."""
        started = time.perf_counter()
        self._run("-m", "uv", "pip", "uninstall", "--quiet", "--python", self.python, self.package)
        before, faults = self._freeze(), []
        try:
            self._execute(notebook)
        except Exception as error:  # Whatever it was: the other notebooks have their turn.
            faults.append(str(error).strip())
        after = self._freeze()
        faults += changes(before, after, self.installed)
        if self.installed in after:
            faults += lacking(recorded(self.root), recorded(self._site()))
        if before != after - {self.installed}:
            self._stamp.unlink()  # No environment for another notebook.
        return Result(notebook.stem, time.perf_counter() - started, faults)

    def _execute(self, notebook: Path) -> None:
        content = nbformat.read(notebook, as_version=4)
        for cell in content.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        specs = KernelSpecManager(kernel_dirs=[str(self.folder / "kernels")])
        kernel = AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
        with tempfile.TemporaryDirectory() as alone:
            nbformat.write(content, Path(alone) / notebook.name)
            client = NotebookClient(
                content, km=kernel, timeout=CELL_SECONDS, resources={"metadata": {"path": alone}}
            )
            client.execute(env=self._environment(), cleanup_kc=True)

    def _environment(self) -> dict[str, str]:
        """The kernel's environment variables: Git's and pip's way to what lies here."""
        return fresh() | {
            "CLR_PROFILE": "quick",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self._repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": self.url,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": (self.folder / "wheels").as_uri(),  # A space would part a path.
        }

    @property
    def _repository(self) -> Path:
        return self.folder / "repository.git"

    @property
    def _stamp(self) -> Path:
        return self.folder / "env" / ".made-of"

    def _make_environment(self, pins: Path, build: list[str]) -> None:
        everything, wanted = pinned(pins), pinned(PINS)
        versions = [f"{name}=={v}" for name, v in everything.items() if name in wanted]
        made_of = "\n".join([*versions, *build, str(self.folder)])
        if self._stamp.exists() and self._stamp.read_text() == made_of:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run("-m", "uv", "venv", "--quiet", "--clear",
                  "--python", self._base_python(), self.folder / "env")  # fmt: skip
        # As overrides, for Colab does not mind what its packages ask of one another.
        listed = self.folder / "pins.txt"
        listed.write_text("".join(f"{name}=={v}\n" for name, v in everything.items()))
        self._run("-m", "uv", "pip", "install", "--quiet", "--python", self.python,
                  "--overrides", listed, *versions)  # fmt: skip
        self._run("-m", "pip", "download", "--quiet", "--no-deps",
                  "--dest", self.folder / "wheels", *build)  # fmt: skip
        spec = self.folder / "kernels" / "colab" / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        # Else debugpy complains of frozen modules, and the kernel that it listens on TCP.
        options = ["-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel = [str(self.python), *options, "--IPKernelApp.log_level=ERROR"]
        spec.write_text(json.dumps({"argv": kernel, "display_name": "colab", "language": "python"}))
        self._stamp.write_text(made_of)

    def _base_python(self) -> str:
        """One that is here, or else the name of one to download."""
        for number in PYTHONS:
            with suppress(RuntimeError):
                find = (
                    sys.executable,
                    "-m",
                    "uv",
                    "python",
                    "find",
                    "--no-python-downloads",
                    number,
                )
                return run(*find, cwd=self.folder, **with_pyenv()).strip()
        return PYTHONS[0]

    def _freeze(self) -> set[str]:
        return set(self._run("-m", "uv", "pip", "freeze", "--python", self.python).splitlines())

    def _commit(self) -> str:
        """Puts the working tree into a bare repository, whatever the project's own has of it."""
        self._git("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
        self._git("--work-tree", self.root, "add", "--all")
        # fmt: off
        self._git("-c", "user.name=colab", "-c", "user.email=colab@localhost",
                  "-c", "commit.gpgsign=false", "--work-tree", self.root,
                  "commit", "--quiet", "--allow-empty", "--message=The working tree")
        # fmt: on
        return self._git("rev-parse", "HEAD").strip()

    def _site(self) -> Path:
        """The folder of the installed packages."""
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        return Path(run(self.python, "-c", where, cwd=self.folder).strip())

    def _git(self, *words: str | Path) -> str:
        return run("git", "--git-dir", self._repository, *words, cwd=self.root)

    def _run(self, *words: str | Path) -> str:
        return run(sys.executable, *words, cwd=self.folder)


def fresh() -> dict[str, str]:
    """Returns the environment variables without those that Colab would not know of."""
    return {name: text for name, text in os.environ.items() if not NOT_ON_COLAB.fullmatch(name)}


def with_pyenv() -> dict[str, str]:
    """Returns a `PATH` with every Python that pyenv, if it is here, has installed."""
    folders = [os.environ.get("PATH", "")]
    if shutil.which("pyenv"):
        versions = Path(run("pyenv", "root", cwd=Path.cwd()).strip()) / "versions"
        folders += map(str, sorted(versions.glob("*/bin")))
    return {"PATH": os.pathsep.join(folders)}


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Runs a command, with more environment variables if given, and returns what it prints.

    Raises:
        Unreachable: It failed for want of a network.
        RuntimeError: It failed for another reason.
    """
    done = subprocess.run(
        command, cwd=cwd, env=fresh() | variables, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    text = f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}"
    unreachable = r"error sending request|Failed to establish a new connection|dns error"
    raise (Unreachable if re.search(unreachable, text) else RuntimeError)(text)


def changes(before: set[str], after: set[str], ours: str) -> list[str]:
    """Returns what is wrong with what a notebook did to the installed packages, in words.

    Args:
        before: They, as lines of `pip freeze`.
        after: The same, after the notebook.
        ours: The one line that must have come.
    """
    faults = [] if ours in after else [f"the package was not installed, as {ours}"]
    touched = sorted(before ^ (after - {ours}))
    return faults + ([f"Colab's packages were touched: {', '.join(touched)}"] if touched else [])


def recorded(folder: Path) -> set[str]:
    """Returns the recorded runs and measurements of the package in a folder."""
    package = folder / "clr"
    return {path.relative_to(package).as_posix() for path in package.rglob("*.json")}


def lacking(ours: set[str], installed: set[str]) -> list[str]:
    """Returns what is wrong with the installed records, in words: those that a chapter can't show.

    Args:
        ours: The working tree's.
        installed: The installed package's.
    """
    missing = sorted(ours - installed)
    return [f"records not installed ({len(missing)}): {', '.join(missing)}"] if missing else []


def pinned(path: Path) -> dict[str, str]:
    """Returns the versions that a list in the form of `pip freeze` pins, by normal name.

    What comes from an address and not from an index is left out, and so is what a version says of
    its build, as in `2.10.0+cu128`.
    """
    lines = re.findall(r"^([\w.-]+)==([\w.!]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process uses the environment in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def table(results: list[Result]) -> str:
    """Returns a line a notebook, and below it what is wrong with those that failed."""
    lines = [f"{'notebook':<20} seconds  outcome"]
    for result in results:
        outcome = "FAILED" if result.faults else "passed"
        lines.append(f"{result.notebook:<20} {result.seconds:7.1f}  {outcome}")
    for result in results:
        lines += [f"\n{result.notebook}: {fault}" for fault in result.faults]
    return "\n".join(lines)


def main() -> None:
    """Checks the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="such as 03_policies (default: all)")
    parser.add_argument("--pins", type=Path, default=PINS, help="a list of Colab's versions")
    options = parser.parse_args()
    known = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    unknown = set(options.notebooks) - set(known)
    if unknown:
        parser.error(f"no such notebook: {', '.join(sorted(unknown))}")
    if not options.pins.is_file():
        parser.error(f"no such list of versions: {options.pins}")
    results = []
    with alone(ROOT / "_build" / "colab"):
        for name in options.notebooks or known:
            print(f"executing {name} as Colab would", flush=True)
            try:  # Anew for each, should the one before have damaged it.
                colab = Colab(ROOT, ROOT / "_build" / "colab", options.pins)
            except (Unreachable, RuntimeError) as error:
                sys.exit(f"There is no environment like Colab's. {error}")
            results.append(colab.check(known[name]))
    print(f"\n{table(results)}")
    failed = [result.notebook for result in results if result.faults]
    if failed:
        sys.exit(f"\nfailed as on Colab: {', '.join(failed)}")


if __name__ == "__main__":
    main()

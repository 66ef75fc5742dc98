"""Executes one notebook with Papermill and writes it, tidied, where it is told to.

    python tools/execute.py notebooks/03_policies.ipynb out.ipynb -p PROFILE quick
    python tools/execute.py notebooks/03_policies.ipynb notebooks/03_policies.ipynb

The first is how the book is made. The second refreshes a notebook in place: without `-p` Papermill
adds no cell, and `$CLR_PROFILE` says the profile. A notebook that fails is named together with the
cell and the error, and the output stays as it was. What the kernel would write to the terminal,
TensorFlow's messages above all, goes to `_build/logs`, and is shown if the notebook fails.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "_build" / "logs"


def logged_to(log: Path) -> type[AsyncKernelManager]:
    """Returns a manager whose kernels write to a file what would go to the terminal."""

    class Logged(AsyncKernelManager):
        async def start_kernel(self, **options):
            with log.open("wb") as file:
                await super().start_kernel(**options, stdout=file, stderr=file)

    return Logged


def execute(notebook: Path, output: Path, parameters: dict[str, str], log: Path) -> None:
    """Executes a notebook, in the output's folder, and writes it whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / notebook.name
        papermill.execute_notebook(
            str(notebook),
            str(raw),
            parameters,
            kernel_name="python3",
            language="python",
            progress_bar=sys.stderr.isatty(),
            cwd=str(output.parent),
            # The kernel warns that it listens on TCP, as kernels do.
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            kernel_manager_class=logged_to(log),
        )
        executed = nbformat.read(raw, as_version=4)
    took = executed.metadata.papermill
    tidy(executed)
    if not (output.exists() and output.samefile(notebook)):  # In place, each time would differ.
        executed.metadata["executed"] = {"seconds": took.duration, "finished": took.end_time}
    nbformat.validate(executed)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        nbformat.write(executed, temporary)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Removes what the execution left that no reader should meet, in place."""
    # Papermill's cell of parameters would override what a reader who downloads the notebook writes
    # into the `parameters` cell just above it. The page says the profile in its provenance.
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    notebook.metadata.pop("papermill", None)
    # The same on every machine, so that executing again changes nothing but outputs.
    notebook.metadata.kernelspec = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = tidy_outputs(cell.outputs)


def tidy_outputs(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Returns outputs without stderr (TensorFlow's messages), in whole streams, without paths."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            output.text = hide_paths(output.text)
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif "data" in output:
            for kind, content in output.data.items():
                if kind.startswith("text/"):
                    output.data[kind] = hide_paths(content)
        kept.append(output)
    return kept


def hide_paths(text: str) -> str:
    """Returns text with this machine's folders replaced by `.` (the project) and `~` (home)."""
    return text.replace(str(ROOT), ".").replace(str(Path.home()), "~")


def main() -> None:
    """Executes the notebook that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args()
    print(f"executing {options.notebook}", flush=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{options.notebook.stem}.log"
    try:
        execute(options.notebook, options.output, dict(options.p), log)
    except Exception as error:  # Whatever it was: the notebook's name must stand beside it.
        said = log.read_text(errors="replace") if log.exists() else ""
        sys.exit(f"{said}{options.notebook} failed, {options.output} is as it was.\n{error}")


if __name__ == "__main__":
    main()

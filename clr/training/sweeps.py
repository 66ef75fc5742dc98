"""Sweeps: one notebook executed with many sets of parameters, several at a time."""

import ast
import hashlib
import itertools
import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from clr import checks
from clr.files import check_writable, write_atomically
from clr.training.run import Run

Parameters = dict[str, Any]


def sweep(
    notebook: str | os.PathLike,
    grid: Mapping[str, Sequence[Any]],
    folder: str | os.PathLike,
    address: str | None = None,
    jobs: int | None = None,
    verbose: bool = True,
) -> list[tuple[Parameters, Run]]:
    """Executes a notebook with Papermill for each combination of parameters, in parallel.

    The notebook must have a cell tagged `parameters`, and write its `Run` to the path that its
    parameter `OUTPUT` names, as chapter 7 does. It is executed in its own folder. What it wrote and
    the executed notebook are kept as `<parameters>.json` and `<parameters>.ipynb`, whole or not at
    all: a sweep that was killed, or of which some executions failed, is called again and executes
    only what is missing.

    Args:
        notebook: The notebook's path.
        grid: For each parameter its values.
        folder: Where to keep the results. A folder belongs to one notebook.
        address: A Dask scheduler's, such as `"tcp://10.0.0.1:8786"`. Its workers need this package,
            Papermill, and both paths on a file system that they share. Defaults to none: the
            executions run on this machine, without a scheduler to start or stop.
        jobs: Executions at once on this machine. Defaults to its number of cores.
        verbose: Whether to print a line for each execution. Defaults to `True`.

    Returns:
        Pairs of parameters and `Run`, in the order of the grid.

    Raises:
        FileNotFoundError: No such notebook.
        ImportError: Papermill is not installed; with `address`, Dask's `distributed`.
        OSError: No scheduler answers at `address`.
        RuntimeError: Some executions failed: which, and why. The others are kept.
        ValueError: A grid that is empty, has a value twice or a name that is no parameter of the
            notebook's, `jobs` beside `address`, a `folder` that can't be written to or belongs to
            another notebook, or a damaged result.
    """
    notebook, folder = Path(notebook).resolve(), Path(folder).resolve()
    tasks = {name_of(parameters): parameters for parameters in combinations(grid)}
    if len(tasks) < len(combinations(grid)):
        raise ValueError(
            f"`grid` must give values with different names. Received: grid={dict(grid)!r}"
        )
    if jobs is not None:
        checks.count("jobs", jobs)
        if address is not None:
            raise ValueError(
                "`jobs` has no effect beside `address`, because the scheduler's workers decide how "
                "many executions run at once. Leave one or the other out. "
                f"Received: jobs={jobs!r}, address={address!r}"
            )
    _require_papermill()
    code, known = _read(notebook)
    if unknown := [name for name in (*grid, "OUTPUT") if name not in known]:
        raise ValueError(
            f"`grid` must name parameters of {notebook.name}, and OUTPUT must be one of these. "
            f"They are {', '.join(known) or 'none'}. Received: {', '.join(unknown)}"
        )
    check_writable(folder)
    _claim(folder, notebook.name, code)
    missing = [name for name in tasks if not (folder / f"{name}.json").exists()]
    if verbose and len(missing) < len(tasks):
        print(f"{len(tasks) - len(missing)} of {len(tasks)} are there already", flush=True)
    failed = {}
    if missing:
        for name, error in _executed(notebook, folder, tasks, missing, address, jobs):
            if error is not None:
                failed[name] = error
            if verbose:
                print(f"{name}: {'failed' if error else 'done'}", flush=True)
    if failed:
        reasons = "\n".join(f"{name}: {_last_line(error)}" for name, error in failed.items())
        raise RuntimeError(
            f"{len(failed)} of {len(tasks)} executions of {notebook.name} failed; the others are "
            f"kept, and the same sweep again executes only what is missing.\n{reasons}"
        )
    return [(given, Run.load(folder / f"{name}.json")) for name, given in tasks.items()]


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[Parameters]:
    """Returns every combination of a grid's values; the last parameter changes fastest.

    Args:
        grid: For each parameter its values.

    Raises:
        ValueError: No parameter, one without values, or one that `sweep` itself sets.
    """
    if not grid or not all(len(values) and not isinstance(values, str) for values in grid.values()):
        raise ValueError(
            f"`grid` must give a list of values for each parameter. Received: grid={dict(grid)!r}"
        )
    if "OUTPUT" in grid:
        raise ValueError(f"`grid` must leave OUTPUT to the sweep. Received: grid={dict(grid)!r}")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def name_of(parameters: Parameters) -> str:
    """Returns what an execution's files are called: `"CLR_METHOD=triangular,SEED=0"`."""
    name = ",".join(f"{key}={value}" for key, value in parameters.items())
    return name.replace(os.sep, "_")


def table(results: Sequence[tuple[Parameters, Run]], by: str = "CLR_METHOD") -> str:
    """Returns the test accuracies as a table in Markdown: a row for each value of a parameter.

    Args:
        results: What `sweep` returned.
        by: The parameter. Those with the same value of it stand in one row.

    Raises:
        ValueError: A parameter that was not swept over.
    """
    groups: dict[Any, list[float]] = {}
    for parameters, run in results:
        if by not in parameters:
            raise ValueError(f"`by` must be one of {', '.join(parameters)}. Received: by={by!r}")
        groups.setdefault(parameters[by], []).append(run.test_accuracy)
    lines = [f"{by} | runs | mean test accuracy | standard deviation | lowest | highest"]
    lines.append("--- | ---: | ---: | ---: | ---: | ---:")
    for value, found in groups.items():
        spread = f"{statistics.stdev(found):.2%}" if len(found) > 1 else "unknown"
        numbers = f"{statistics.mean(found):.2%} | {spread} | {min(found):.2%} | {max(found):.2%}"
        lines.append(f"{value} | {len(found)} | {numbers}")
    return "\n".join(lines)


def execute(notebook: Path, folder: Path, name: str, parameters: Parameters) -> None:
    """Executes the notebook once and keeps the results; a worker calls it.

    Args:
        notebook: The notebook.
        folder: Where to keep the results.
        name: What to call them.
        parameters: The notebook's parameters, without `OUTPUT`.

    Raises:
        Exception: Whatever the notebook raised.
        ValueError: The notebook wrote no whole `Run`.
    """
    import papermill

    # Beside the results, on the same file system: what is whole is renamed, and never copied. Under
    # a name of its own, so that what a killed execution left is found and removed.
    place = folder / f".{name}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    executed, written = place / "executed.ipynb", place / "run.json"
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            {**parameters, "OUTPUT": str(written)},
            kernel_name="python3",
            language="python",
            progress_bar=False,
            # The kernel's folder alone; Papermill's own `cwd` would change that of all threads.
            resources={"metadata": {"path": str(notebook.parent)}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        if not written.exists():
            raise ValueError(f"{notebook.name} wrote no run to the path in its parameter OUTPUT")
        Run.load(written)
        os.replace(executed, folder / f"{name}.ipynb")
        os.replace(written, folder / f"{name}.json")  # The last: with it the execution is complete.
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _executed(
    notebook: Path,
    folder: Path,
    tasks: dict[str, Parameters],
    missing: list[str],
    address: str | None,
    jobs: int | None,
) -> Iterator[tuple[str, BaseException | None]]:
    """Yields the name of each execution as it ends, with its error if it failed."""
    with _pool(address, jobs) as (submit, as_completed):
        running = {submit(execute, notebook, folder, name, tasks[name]): name for name in missing}
        for future in as_completed(running):
            yield running[future], future.exception()


@contextmanager
def _pool(address: str | None, jobs: int | None) -> Iterator[tuple[Callable, Callable]]:
    """Gives what submits an execution, and what yields the submitted ones as they end."""
    if address is None:
        jobs = jobs or os.cpu_count() or 1
        # Threads suffice to wait for the kernels, which are processes of their own.
        with futures.ThreadPoolExecutor(jobs) as pool:
            yield pool.submit, futures.as_completed
        return
    try:
        import distributed
    except ImportError as error:
        raise ImportError(
            f"A sweep on a cluster needs Dask: pip install distributed ({error})"
        ) from error
    with distributed.Client(address, timeout=10) as client:
        yield partial(client.submit, pure=False), distributed.as_completed


def _require_papermill() -> None:
    try:
        import papermill  # noqa: F401
    except ImportError as error:
        raise ImportError(f"A sweep needs Papermill: pip install papermill ({error})") from error


def _read(notebook: Path) -> tuple[str, list[str]]:
    """Returns a notebook's code and the names in its cell of parameters."""
    import nbformat

    cells = [c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"]
    given = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    names = [node for source in given for node in ast.walk(ast.parse(source))]
    known = [n.id for n in names if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return "\n\n".join(cell.source for cell in cells), known


def _claim(folder: Path, name: str, code: str) -> None:
    """Writes down which notebook's results a folder holds, or checks it."""
    digest, mark = hashlib.sha256(code.encode()).hexdigest(), folder / "notebook.sha256"
    if not mark.exists():
        write_atomically(mark, f"{digest}  {name}\n".encode())
    elif mark.read_text().split()[:1] != [digest]:
        raise ValueError(
            "`folder` must be a new one, or one with results of the same notebook. Received: "
            f"folder={str(folder)!r}, which holds those of {mark.read_text().strip()}; {name} has "
            "other code"
        )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

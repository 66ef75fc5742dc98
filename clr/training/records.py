"""What was recorded for the book: runs and benchmarks. The package holds both."""

from importlib import resources
from pathlib import Path
from typing import Any

from clr.files import read_json
from clr.training.run import Run

PACKAGE = Path(str(resources.files("clr")))
RUNS = PACKAGE / "runs"
BENCHMARKS = PACKAGE / "benchmarks"
BENCHMARK = "clr-benchmark/1"
BOOK = "https://cyclical-learning-rates.github.io/clr"


def recorded(pattern: str) -> dict[str, Run]:
    """Returns the recorded runs whose names match, by name.

    Args:
        pattern: Such as `"budgets/short-*"`; the runs' files are named so, with `.json`.

    Raises:
        ValueError: A file that matches is damaged, or not a run's.
    """
    return {
        path.relative_to(RUNS).as_posix().removesuffix(".json"): Run.load(path)
        for path in sorted(RUNS.glob(f"{pattern}.json"))
    }


def recorded_benchmark(name: str) -> dict[str, Any] | None:
    """Returns what a benchmark measured, or `None` where its record is not there.

    Args:
        name: The benchmark's, such as `"callback"`.

    Returns:
        `"about"`, what was measured, in a sentence; `"rows"`, a dictionary for each contestant;
        `"hardware"` and `"versions"`, as in a `Run`.

    Raises:
        ValueError: The record is damaged.
    """
    path = BENCHMARKS / f"{name}.json"
    if not path.exists():
        return None
    with read_json(path, BENCHMARK, "a benchmark's record") as values:
        return values


def elsewhere(page: str, what: str = "recorded runs") -> str:
    """Returns a sentence in Markdown that says where to read what this copy lacks.

    Args:
        page: The chapter's file name, such as `"07_train_cifar10"`.
        what: What is missing.
    """
    address = f"{BOOK}/notebooks/{page}.html"
    return f"**This copy has no {what}.** [The published page]({address}) shows them."

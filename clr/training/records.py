"""The runs recorded with the book, in the repository's folder book/runs."""

from pathlib import Path

from clr.range_test import RangeTest
from clr.training.fitting import Run

# Beside the package in a clone; where only the package is installed, as on Colab, it is not there.
RUNS = Path(__file__).resolve().parents[2] / "book" / "runs"
RANGE = ".range.json"


def recorded(pattern: str) -> dict[str, Run]:
    """Returns the recorded runs whose names match, by name; none where the book is not at hand.

    Args:
        pattern: Such as `"claim/constant-*"`; the runs' files are named so, with `.json`.

    Raises:
        ValueError: A file that matches is damaged, or not a run's.
    """
    paths = [p for p in sorted(RUNS.glob(f"{pattern}.json")) if not p.name.endswith(RANGE)]
    return {
        path.relative_to(RUNS).as_posix().removesuffix(".json"): Run.load(path) for path in paths
    }


def recorded_range_tests(pattern: str) -> dict[str, RangeTest]:
    """Returns the recorded range tests whose names match, by the name of the run they were for.

    Args:
        pattern: As for `recorded`.

    Raises:
        ValueError: A file that matches is damaged, or not a range test's.
    """
    paths = sorted(RUNS.glob(f"{pattern}{RANGE}"))
    return {
        path.relative_to(RUNS).as_posix().removesuffix(RANGE): RangeTest.from_json(path)
        for path in paths
    }

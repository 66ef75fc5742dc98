"""What the benchmarks share: interleaved repeats, medians with their spread, tables, JSON."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clr.files import write_atomically
from clr.training import hardware, versions

RESULTS = Path(__file__).resolve().parent.parent / "book" / "benchmarks"


def interleaved(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Returns seconds by contestant, one a repeat.

    All run in turn, so that what slows the machine for a while slows them all; a first round is
    not counted.

    Args:
        contestants: Functions without arguments.
        repeats: Counted rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for counted in [False] + [True] * repeats:
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            if counted:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def quartiles(values: list[float]) -> dict[str, float]:
    """Returns the median and the quartiles beside it."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def write(name: str, rows: list[dict[str, Any]], about: str) -> None:
    """Prints the rows as a table and writes them to book/benchmarks/<name>.json.

    Args:
        name: The benchmark's.
        rows: One a contestant, with the same keys: text, numbers, or what `quartiles` returned.
        about: What was measured, in a sentence.
    """
    print(f"\n{name}: {about}")
    for row in rows:
        print("   ".join(f"{key} {_text(value)}" for key, value in row.items()))
    content = {
        "format": "clr-benchmark/1",
        "about": about,
        "rows": rows,
        "hardware": hardware(),
        "versions": versions(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(RESULTS / f"{name}.json", (json.dumps(content, indent=1) + "\n").encode())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

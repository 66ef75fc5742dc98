"""What the benchmarks share: interleaved repeats, medians with their spread, tables, JSON."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clr import recorded_benchmark, records
from clr.files import write_json
from clr.training import hardware, versions

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1.15  # A ratio is worse if even its better quartile is so many times the best recorded.


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


def measured(command: list[str], **options: Any) -> tuple[str, float, float]:
    """Returns what a command prints, its seconds, and its largest process's peak memory in MiB.

    Args:
        command: Program and arguments.
        **options: Passed to `subprocess.run`.

    Raises:
        RuntimeError: The command failed; the message ends with what it wrote.
    """
    begin = time.perf_counter()
    # In a process of its own, so that the peak is this command's and not an earlier one's.
    wrapper = [sys.executable, str(Path(__file__).with_name("peak.py")), *command]
    done = subprocess.run(wrapper, capture_output=True, text=True, **options)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{command} failed: {(done.stdout + done.stderr)[-2000:]}")
    printed, peak = done.stdout.rstrip("\n").rsplit("\n", 1)
    return printed, seconds, float(peak)


def quartiles(values: list[float]) -> dict[str, float]:
    """Returns the median and the quartiles beside it."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def ratios(values: list[float], others: list[float]) -> dict[str, float]:
    """Returns the quartiles of values over others, repeat by repeat."""
    return quartiles([value / other for value, other in zip(values, others, strict=True)])


def got_worse(rows: list[dict[str, Any]], stored: list[dict[str, Any]], ratio: str) -> list[str]:
    """Says which rows' ratio is worse than the best recorded; notes the best in `rows`.

    Higher is worse. Against the best ever, not against the last: many small steps back add up.

    Args:
        rows: New rows; the first value of each is its name.
        stored: Rows of the file that was written last; may be empty.
        ratio: The key whose value, from `quartiles`, is compared.
    """
    before = {next(iter(row.values())): row[ratio] for row in stored if ratio in row}
    said = []
    for row in rows:
        name, value = next(iter(row.values())), row[ratio]
        best = before.get(name, {}).get("best", value["median"])
        value["best"] = min(best, value["median"])
        if value["low"] > TOLERANCE * best:
            said.append(f"{name}: {ratio} was {best:.3g} and is {value['median']:.3g}")
    return said


def write(name: str, rows: list[dict[str, Any]], about: str, ratio: str | None = None) -> None:
    """Prints the rows as a table and writes them to clr/benchmarks/<name>.json.

    Args:
        name: The benchmark's.
        rows: One a contestant, with the same keys: text, numbers, lists of numbers, or what
            `quartiles` returned.
        about: What was measured, in a sentence.
        ratio: The key that is compared with the file's former content, if that was measured on the
            same hardware. Defaults to none.

    Raises:
        SystemExit: A ratio got worse: after writing, with the rows' names.
    """
    print(f"\n{name}: {about}")
    for row in rows:
        print("   ".join(f"{key} {_text(value)}" for key, value in row.items()))
    content: dict[str, Any] = {
        "about": about,
        "rows": rows,
        "hardware": hardware(),
        "versions": versions(),
    }
    stored = recorded_benchmark(name) or content
    if ratio and stored["hardware"] != content["hardware"]:
        # Another processor has other ratios, however good the code.
        print(f"Not compared with the last record, which is from {stored['hardware']}.")
        stored = content
    worse = got_worse(rows, stored["rows"], ratio) if ratio else []
    records.BENCHMARKS.mkdir(parents=True, exist_ok=True)
    write_json(records.BENCHMARKS / f"{name}.json", records.BENCHMARK, content)
    if worse:
        raise SystemExit("\n".join(["WORSE than before:", *worse]))


def write_task(name: str, content: dict[str, Any]) -> None:
    """Writes what was measured on one task to clr/benchmarks/<name>.json, with the machine."""
    path = records.BENCHMARKS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**content, "hardware": hardware(), "versions": versions()}
    write_json(path, records.BENCHMARK, content)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

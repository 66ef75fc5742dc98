"""That chapter 2 reads the benchmark of bounds right and says what its numbers say."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from chapters import cells_of, execute
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_ext"))

import bounds

from clr import records
from clr.files import write_json

CELLS = cells_of("02_range_test")
SECTION = next(i for i, cell in enumerate(CELLS) if "(range-test-benchmark)=" in cell.source)
OURS, HALF = "suggest(): OneCycleLR", "suggest(): constant at half"
SCHEDULES = [f"suggest(): {shape}" for shape in bounds.SHAPES]
READINGS = [
    f"{reading}: {shape}" for reading in bounds.READINGS[1:] for shape in list(bounds.SHAPES)[:2]
]
FACTORS = ("0.01", "0.1", "1", "10", "100")


def record(name, held, scores):
    """Writes a task's record of two seeds, with a third seed's scores that no longer count."""
    named = {contestant: 80.0 for contestant in [*bounds.CONSTANTS, *SCHEDULES, *READINGS]}
    named |= {bounds.RIVAL: 80.0, bounds.SCHEDULE_FREE: 80.0, **scores}
    rows = [
        {
            "contestant": contestant,
            "bounds": [[0.1, 1.0]] * 3,
            "scores": [score - 1, score + 1, 0.0],
        }
        for contestant, score in named.items()
    ]
    curve = {"config": {"num_steps": 200}, "losses": [1.0] * 200, "trials": [[0.0, 1.0]]}
    values = {"about": name, "steps": 400, "held": held, "rows": rows, "curves": [curve] * 2}
    write_json(records.BENCHMARKS / "bounds" / f"{name}.json", records.BENCHMARK, values)
    return json.loads((records.BENCHMARKS / "bounds" / f"{name}.json").read_text())


def summarise(**parts):
    """Writes the benchmark's table."""
    rows = [row for part, stored in parts.items() for row in bounds.summary(stored, part)]
    machine = {"processor": "a", "cores": 2, "accelerators": []}
    values = {"about": "", "rows": rows, "hardware": machine, "versions": {}}
    write_json(records.BENCHMARKS / "bounds.json", records.BENCHMARK, values)
    return rows


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that runs the section's cells and returns what they show, and their names."""
    monkeypatch.setattr(records, "BENCHMARKS", tmp_path)
    monkeypatch.setattr("clr.training.records.BENCHMARKS", tmp_path)
    (tmp_path / "bounds").mkdir()

    def run():
        end = next(i for i, cell in enumerate(CELLS) if "Take-away" in cell.source)
        # Of what comes before the section, the settings and imports.
        return execute([*CELLS[:4], *CELLS[SECTION:end]], monkeypatch)[:2]

    return run


def test_without_a_record_it_says_so_and_nothing_else(read):
    shown, _ = read()
    assert shown.startswith("**This copy has no measurements") and "\n" not in shown


def test_only_the_tasks_held_back_are_judged_once_they_are_there(read):
    design = [record(f"d{i}", False, {OURS: 70.0 - i}) for i in range(3)]
    summarise(design=design)
    shown, _ = read()
    assert "not recorded yet" in shown and "A rival wins" in shown
    held = [record(f"h{i}", True, {OURS: 90.0 + i}) for i in range(3)]
    summarise(design=design, held=held)
    shown, _ = read()
    assert "not recorded yet" not in shown and "The range test wins" in shown
    assert "3 tasks held back, 3 tasks on which we designed the rule" in shown


@pytest.mark.parametrize(
    ("ours", "verdict", "advice"),
    [
        ((5, 6, 7, 8), "**The range test wins**", "run the range test, then"),
        ((-5, -6, -7, -8), "**A rival wins:**", "start with one-cycle"),
        ((-5, 5, -6, 6), "**No clear difference**", "start with one-cycle"),
    ],
)
def test_the_rival_without_a_test_comes_first_unless_it_is_clearly_worse(
    read, ours, verdict, advice
):
    summarise(held=[record(f"h{i}", True, {OURS: 80.0 + gain}) for i, gain in enumerate(ours)])
    shown, _ = read()
    assert shown.startswith(verdict) and f"**What to use:** {advice}" in shown


def test_what_is_compared_is_counted_by_hand(read):
    gains = [3.0, -2.0, 0.5, 8.0]
    held = [record(f"h{i}", True, {HALF: 80.0 - gain}) for i, gain in enumerate(gains)]
    rows = summarise(held=held)
    shown, names = read()
    mean, low, high, better, worse = names["compared"](OURS, HALF, "held")
    assert (better, worse) == (2, 1)
    assert mean == pytest.approx(np.mean(gains))
    expected = stats.t.interval(0.95, 3, np.mean(gains), stats.sem(gains))
    assert (low, high) == pytest.approx(expected)
    assert "**The cycle:** no clear difference." in shown
    row = next(row for row in rows if row["contestant"] == HALF)
    regrets = f"{row['median']:.1f} | {row['mean']:.1f} | {row['p90']:.1f} | {row['worst']:.1f}"
    assert f"| constant at half of `max_lr` | {regrets} | 1 | 2 |" in shown


def test_the_search_is_the_best_of_the_means_and_costs_five_runs(read):
    best = {f"constant at default x {factor}": 60.0 for factor in FACTORS}
    held = [
        record(f"h{i}", True, best | {f"constant at default x {FACTORS[i]}": 85.0})
        for i in range(3)
    ]
    summarise(held=held)
    shown, names = read()
    assert [s[bounds.BEST_OF_FIVE] for s in names["tasks"]["held"].values()] == [85.0] * 3
    assert "| best of five constant rates | 0.0 | 0.0 | 0.0 | 0.0 |" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("| best of five")]
    assert line.endswith("| 5 |")


def test_a_record_without_the_default_reading_is_left_out(read):
    summarise(held=[record(f"h{i}", True, {}) for i in range(3)])
    old = json.loads((records.BENCHMARKS / "bounds" / "h0.json").read_text())
    old["rows"] = [row for row in old["rows"] if not row["contestant"].startswith("suggest()")]
    (records.BENCHMARKS / "bounds" / "old.json").write_text(json.dumps(old))
    _, names = read()
    assert set(names["tasks"]["held"]) == {"h0", "h1", "h2"}

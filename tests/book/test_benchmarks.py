"""That a benchmark which got worse is told so, by name, and against the best recorded."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import harness


def row(name: str, *ratios: float) -> dict:
    return {"contestant": name, "ratio": harness.quartiles(list(ratios))}


def write(*rows: dict) -> None:
    harness.write("trial", list(rows), "a trial", "ratio")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(harness.records, "BENCHMARKS", tmp_path)
    return tmp_path / "trial.json"


def test_a_ratio_that_got_worse_is_named_and_the_result_written(results):
    write(row("calm", 1.0, 1.0, 1.0), row("slowed", 1.0, 1.1, 1.2))
    with pytest.raises(SystemExit, match=r"WORSE[^:]*:\nslowed: ratio was 1.1 and is 1.5$"):
        write(row("calm", 1.0, 1.01, 1.02), row("slowed", 1.4, 1.5, 1.6))
    assert json.loads(results.read_text())["rows"][1]["ratio"]["median"] == 1.5


def test_noise_is_not_a_regression():
    write(row("noisy", 0.9, 1.0, 1.1))
    write(row("noisy", 0.9, 1.3, 1.7))


def test_many_small_steps_back_add_up():
    for ratio in (1.0, 1.06, 1.12):
        write(row("creeping", ratio, ratio, ratio))
    with pytest.raises(SystemExit, match=r"creeping: ratio was 1 and is 1\.19"):
        write(row("creeping", 1.19, 1.19, 1.19))


def test_another_processor_has_ratios_of_its_own(monkeypatch, capsys):
    write(row("moved", 1.0, 1.0, 1.0))
    monkeypatch.setattr(harness, "hardware", lambda: {"processor": "another"})
    write(row("moved", 1.5, 1.5, 1.5))
    assert "Not compared" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"moved: ratio was 1\.5 and is 1\.9"):
        write(row("moved", 1.9, 1.9, 1.9))


def test_all_contestants_run_in_turn_and_the_first_round_is_not_counted():
    order = []
    contestants = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = harness.interleaved(contestants, repeats=2)
    assert order == list("ababab")
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_a_command_that_fails_says_what_it_wrote():
    with pytest.raises(RuntimeError, match="no such luck"):
        harness.measured([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_a_command_is_measured_with_its_memory():
    program = "import time; kept = b'.' * (300 << 20); time.sleep(0.2); print('done')"
    printed, seconds, peak = harness.measured([sys.executable, "-c", program])
    assert (printed, seconds > 0.2) == ("done\n", True)
    assert 300 < peak < 400

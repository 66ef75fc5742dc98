import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import stand_in
from small_data import SMALL, subset

import clr
from clr import Experiment, records, train

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import record  # noqa: E402


@pytest.fixture(scope="module")
def run(eager):
    return train(replace(SMALL, width=0.05, num_epochs=1), subset(64, 20), verbose=False)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    for module in (records, record):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    (tmp_path / "study").mkdir()
    return tmp_path


def test_recorded_runs_are_found_by_name(runs, run):
    run.save(runs / "study" / "constant-seed-0.json")
    run.save(runs / "study" / "other.json")
    assert clr.recorded("study/constant-*") == {"study/constant-seed-0": run}
    assert clr.recorded("nothing/*") == {}


def test_a_damaged_record_is_named(runs):
    (runs / "study" / "constant-seed-0.json").write_text("{")
    with pytest.raises(ValueError, match=r"constant-seed-0\.json is not a run"):
        clr.recorded("study/*")


def test_what_is_recorded_already_is_not_made_again(runs, run, monkeypatch, capsys):
    tasks = [("study/a", run.experiment), ("study/b", run.experiment)]
    monkeypatch.setitem(record.STUDIES, "budgets", lambda: iter(tasks))
    for name, _ in tasks:
        run.save(runs / f"{name}.json")
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*.json")}
    monkeypatch.setattr(sys, "argv", ["record.py", "budgets"])
    record.main()
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*.json")} == before
    assert capsys.readouterr().out == ""


def test_a_recording_stops_in_time_and_goes_on(runs, run, monkeypatch, capsys):
    run.save(runs / "run.json")
    short, long = (
        SimpleNamespace(num_epochs=n, gate=runs / "gate", run=runs / "run.json") for n in (1, 3)
    )
    tasks = [("study/short", short), ("study/long", long)]
    monkeypatch.setitem(record.STUDIES, "budgets", lambda: iter(tasks))
    monkeypatch.setattr(record, "record", stand_in.record)
    line = ["record.py", "budgets", "--jobs", "2", "--checkpoints", str(runs / "checkpoints")]
    monkeypatch.setattr(sys, "argv", [*line, "--minutes", "0.15"])
    assert record.main() == 1
    assert not multiprocessing.active_children()
    said = capsys.readouterr().out
    assert f"done     study/short  {run.test_accuracy:.4f}\n" in said
    assert "missing  study/long  1 of 3 epochs\n" in said
    first = runs / "checkpoints" / "study" / "long" / "checkpoint-00001.npz"
    written = first.stat().st_mtime_ns
    (runs / "gate").touch()
    monkeypatch.setattr(sys, "argv", line)
    assert record.main() == 0
    assert first.stat().st_mtime_ns == written
    assert "missing" not in capsys.readouterr().out and (runs / "study" / "long.json").exists()


def test_a_run_that_crashes_leaves_the_others_alone(runs, run, monkeypatch, capsys):
    run.save(runs / "run.json")
    crash, good = (SimpleNamespace(num_epochs=n, gate=runs, run=runs / "run.json") for n in (0, 1))
    monkeypatch.setattr(record, "record", stand_in.record)
    tasks = [("study/crash", crash), ("study/good", good)]
    record.record_all(tasks, runs, runs / "checkpoints", jobs=1, end=None)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"1/2  study/crash  failed with exit status -{int(signal.SIGABRT)}"
    assert said[1].startswith("2/2  study/good  0.")


def test_a_rehearsal_stays_out_of_the_recorded_runs(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["record.py", "full", "--width", "0.1"])
    with pytest.raises(SystemExit) as caught:
        record.main()
    assert caught.value.code == 2
    assert f"--runs {runs}" in capsys.readouterr().err and not (runs / "full").exists()


def test_a_rehearsal_has_the_cycles_of_the_experiment():
    for task in record.full():
        name, e = record.rehearsed(task, 0.125, 12)
        assert name == task[0] and (e.width, e.num_epochs) == (0.125, 12)
        if e.clr_method.startswith("triangular"):
            assert e.num_epochs / e.step_size == task[1].num_epochs / task[1].step_size


@pytest.mark.parametrize("option", ["--minutes 0", "--minutes nan", "--jobs 0", "--num-epochs -1"])
def test_an_option_out_of_its_range_is_refused(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["record.py", "full", *option.split()])
    with pytest.raises(SystemExit) as caught:
        record.main()
    name, value = option.split()
    assert caught.value.code == 2
    assert f"{name}: must be above 0. Received: {value}" in capsys.readouterr().err


def test_every_recorded_file_is_of_a_study_or_a_named_run():
    names = {name for study in record.STUDIES.values() for name, _ in study()}
    for path in sorted(records.RUNS.rglob("*.json")):
        name = path.relative_to(records.RUNS).as_posix().removesuffix(".json")
        assert name in names, path


def test_the_studies_are_fair_and_whole_cycles():
    for length in record.BUDGETS:
        runs = [e for name, e in record.budgets() if name.startswith(f"budgets/{length}-")]
        assert len({(e.num_epochs, e.batch_size, e.width, e.dataset) for e in runs}) == 1
    for _, e in [*record.budgets(), *record.cifar10()]:
        assert e.num_epochs % (2 * e.step_size) == 0


def test_the_study_for_a_gpu_begins_with_what_matters_most():
    names = [name.removeprefix("full/") for name, _ in record.full()]
    first = ["recipe", "triangular", "triangular2", "one_cycle"]
    assert names[:4] == [f"{method}-seed-42" for method in first]
    assert all(name.endswith(("-43", "-44")) for name in names[4:-2])


def test_the_ablation_puts_the_tutorials_value_for_one_ingredient_at_a_time():
    tasks = {name.removeprefix("recipe/no_"): e for name, e in record.recipe()}
    whole = tasks.pop("recipe/all-seed-42")
    for name, e in tasks.items():
        ingredient, seed = name.split("-seed-")
        changed = {f.name for f in fields(e) if getattr(e, f.name) != getattr(whole, f.name)}
        changed -= {"seed"}
        assert (e.seed == int(seed)) and all(
            getattr(e, option) == getattr(Experiment(), option) for option in changed
        )
        expected = {"batch": {"batch_size", "max_lr"}, "recipe/all": set()}
        assert changed == expected.get(ingredient, {ingredient})


def test_an_unknown_study_is_refused():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "record.py", "all"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "budgets" in done.stderr


def test_a_recording_that_is_terminated_takes_its_processes_along(tmp_path):
    program = (
        "import record\n"
        "endless = record.replace(record.SMALL, num_epochs=10_000)\n"
        f"record.STUDIES['budgets'] = lambda: [({str(tmp_path / 'endless')!r}, endless)]\n"
        "record.main()\n"
    )
    command = [sys.executable, "-c", program, "budgets", "--jobs", "1"]
    process = subprocess.Popen(command, cwd=ROOT / "tools", start_new_session=True)
    try:
        wait_for((tmp_path / "endless").exists, 120)  # A process is at work.
        process.terminate()
        process.wait(60)
        wait_for(lambda: not alive(process.pid), 20)
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition, seconds):
    """Fails if it is not so in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(group):
    """Whether there is any process of that group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

"""tools/gpu.py: what it copies for the way back, and that a recording goes on from it."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import gpu

KIB = 1 / 1024  # In MiB.
NAMES = ["a/checkpoint-00012.npz", "b/checkpoint-00007.npz", "a/snapshot-001.npz"]

# Stands in for tools/record.py: finishes one run, begins another, and does not stop in time.
ENDLESS = """
import os, subprocess, sys, time
from pathlib import Path
said = dict(a[2:].split("=") for a in sys.argv[1:] if "=" in a)
runs, checkpoints = (Path(said[name]) / "full" for name in ("runs", "checkpoints"))
runs.mkdir(parents=True, exist_ok=True)
names = "KERAS_BACKEND CLR_DATA_DIR CLR_COMMIT".split()
(runs / "done.json").write_text(" ".join(os.environ.get(name, "-") for name in names))
(checkpoints / "begun").mkdir(parents=True, exist_ok=True)
(checkpoints / "begun" / "checkpoint-00003.npz").write_bytes(b"3")
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(checkpoints / "worker").write_text(str(worker.pid))
time.sleep(600)
"""


@pytest.fixture
def machine(tmp_path):
    runs, checkpoints = tmp_path / "runs", tmp_path / "checkpoints"
    runs.mkdir()
    (runs / "done.json").write_text("{}")
    former = ["a/checkpoint-00011.npz", "done/checkpoint-00096.npz"]
    for name in NAMES + former:
        path = checkpoints / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() + bytes(1024))
    return runs, checkpoints


def copied(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_what_the_unfinished_runs_need_is_copied_and_taken_up_elsewhere(machine, tmp_path):
    out, runs, checkpoints = tmp_path / "out", tmp_path / "2" / "runs", tmp_path / "2" / "saved"
    assert gpu.collect(out, *machine, 8, 64) == []
    assert copied(out) == sorted([*NAMES, "runs.zip"])
    gpu.take_up(out, runs, checkpoints)
    assert copied(runs) == ["done.json"] and copied(checkpoints) == sorted(NAMES)
    for name in NAMES:
        assert (checkpoints / name).read_bytes() == (machine[1] / name).read_bytes()


def test_what_was_taken_up_replaces_nothing(machine, tmp_path):
    out = tmp_path / "out"
    gpu.collect(out, *machine, 8, 64)
    (machine[0] / "done.json").write_text("newer")
    (machine[0] / "b.json").write_text("finished meanwhile")
    for path in machine[1].glob("b/*"):
        path.unlink()
    (machine[1] / NAMES[0]).write_bytes(b"newer")
    gpu.take_up(out, *machine)
    assert (machine[0] / "done.json").read_text() == "newer"
    assert (machine[1] / NAMES[0]).read_bytes() == b"newer" and not list(machine[1].glob("b/*"))


@pytest.mark.parametrize(("files", "mib"), [(3, 64), (8, 3 * KIB)])
def test_what_there_is_no_room_for_is_named(machine, tmp_path, files, mib):
    left_out = gpu.collect(tmp_path / "out", *machine, files, mib)
    assert left_out == [machine[1] / NAMES[-1]]
    assert copied(tmp_path / "out") == sorted([*NAMES[:-1], "runs.zip"])


def test_a_later_copy_replaces_the_former(machine, tmp_path):
    out = tmp_path / "out"
    gpu.collect(out, *machine, 8, 64)
    (machine[1] / "a" / "checkpoint-00013.npz").write_bytes(b"13")
    (machine[0] / "b.json").write_text("{}")
    gpu.collect(out, *machine, 8, 64)
    assert copied(out) == ["a/checkpoint-00013.npz", "a/snapshot-001.npz", "runs.zip"]


@pytest.fixture
def carried(tmp_path, monkeypatch):
    (tmp_path / "record.py").write_text(ENDLESS)
    for name, value in {"RECORD": "record.py", "BUILD": "build"}.items():
        monkeypatch.setattr(gpu, name, tmp_path / value)
    monkeypatch.setattr(gpu, "GRACE", 1)
    monkeypatch.setattr(gpu, "FIND_GPU", "")
    for name in ("CLR_DATA_DIR", "CLR_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "carried"
    folder.mkdir()
    (folder / "commit.txt").write_text("abc\n")
    return folder


def call(monkeypatch, carried, *more):
    line = ["gpu.py", "--out", carried.parent / "out", "--carried", carried, "--minutes", "0.05"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (*line, *more)])
    return gpu.main()


def test_a_recording_that_does_not_stop_is_stopped_and_nothing_is_lost(
    carried, monkeypatch, tmp_path
):
    (carried / "cifar10.npz").touch()
    assert call(monkeypatch, carried) != 0
    assert copied(tmp_path / "out") == ["begun/checkpoint-00003.npz", "runs.zip"]
    said = (tmp_path / "build" / "gpu" / "runs" / "full" / "done.json").read_text()
    assert said == f"jax {carried} abc"
    worker = int((tmp_path / "build" / "gpu" / "checkpoints" / "full" / "worker").read_text())
    end = time.monotonic() + 20
    while running(worker):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_rehearsal_keeps_apart_and_needs_no_gpu(carried, monkeypatch, tmp_path):
    (carried / "make_cifar10.py").write_text(
        "import pathlib, sys\nout = pathlib.Path(sys.argv[1])\n"
        "out.mkdir(parents=True)\n(out / 'cifar10.npz').touch()\n"
    )
    call(monkeypatch, carried, "--width", "0.1")
    assert not (tmp_path / "build" / "gpu" / "runs").exists()
    assert copied(tmp_path / "out") == [
        "rehearsal/begun/checkpoint-00003.npz",
        "rehearsal/runs.zip",
    ]
    said = next((tmp_path / "build" / "rehearsal").rglob("done.json")).read_text()
    assert said == f"jax {tmp_path / 'build' / 'gpu' / 'data'} abc"


@pytest.mark.parametrize(
    ("data", "gpu_found", "said"),
    [
        ("cifar10.npz", "raise SystemExit(1)", "finds no GPU"),
        ("other.npz", "", "`--carried` must be a folder with cifar10.npz"),
    ],
)
def test_what_the_machine_lacks_is_said(carried, monkeypatch, capsys, data, gpu_found, said):
    (carried / data).touch()
    monkeypatch.setattr(gpu, "FIND_GPU", gpu_found)
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, carried)
    assert caught.value.code == 2 and said in capsys.readouterr().err
    assert not (carried.parent / "build" / "gpu" / "runs").exists()


def running(number):
    """Whether there is such a process, and it is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text() and not os.kill(
            number, 0
        )
    except (ProcessLookupError, FileNotFoundError):
        return False

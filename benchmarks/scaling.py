"""One training on one JAX device, on two, and on two processes: the same rates, work and weights.

KERAS_BACKEND=jax PYTHONPATH=. _build/jax/bin/python benchmarks/scaling.py

`make scale` makes that environment and calls this. Chapter 12 shows what it writes.
"""

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, write

TIMEOUT = 300  # Seconds in which a process must be done.
HEARTBEAT = 10  # Seconds without a sign of life after which a process counts as lost.
KILLED_AFTER = 25  # Updates: in the third of four epochs.
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "one device": {},
    "two devices": {"devices": 2},
    "two devices, rate by the callback": {"devices": 2, "callback": True},
    "two processes": {"processes": 2},
}


class Process:
    """A process of a training; what it writes goes into files, for one must not wait for a reader.

    Args:
        python: An interpreter that has JAX.
        options: What train_jax.py takes.
    """

    def __init__(self, python: str, options: dict[str, Any]):
        self.out, self.err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        script = str(Path(__file__).with_name("train_jax.py"))
        self.process = subprocess.Popen(
            [python, script, json.dumps(options)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=self.out,
            stderr=self.err,
        )

    def end(self) -> tuple[int, str, str]:
        """Waits, and returns the status and what was written to either stream.

        Raises:
            subprocess.TimeoutExpired: It takes too long; it was killed.
        """
        with self.out, self.err:
            try:
                status = self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            for file in (self.out, self.err):
                file.seek(0)
            return status, self.out.read(), self.err.read()


def start(python: str, devices: int = 1, processes: int = 1, **options: Any) -> list[Process]:
    """Starts the processes of one training.

    Args:
        python: An interpreter that has JAX.
        devices: Devices of each process.
        processes: How many.
        **options: Further ones of train_jax.py; a list has one value for each process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    given = {"devices": devices, "processes": processes, "address": address}
    given |= {"heartbeat": HEARTBEAT}
    started = []
    for process in range(processes):
        own = {k: v[process] if isinstance(v, list) else v for k, v in options.items()}
        started.append(Process(python, {**given, "process": process, **own}))
    return started


def train(python: str, **options: Any) -> list[dict[str, Any]]:
    """Returns what each process of one training printed.

    Args:
        python: An interpreter that has JAX.
        **options: As for `start`.

    Raises:
        RuntimeError: A process failed; the message ends with what it wrote.
    """
    found = []
    for process in start(python, **options):
        status, printed, complaints = process.end()
        if status:
            raise RuntimeError(f"train_jax.py failed: {complaints[-2000:]}")
        found.append(json.loads(printed.splitlines()[-1]))
    return found


def compare(found: list[dict[str, Any]], single: dict[str, Any]) -> dict[str, Any]:
    """Returns how far one training is from that on a single device.

    Args:
        found: What each of its processes printed.
        single: What that on a single device printed.
    """
    rates = np.concatenate([np.array(one["rates"]) for one in found], axis=1)
    rows = [str(number) for number in found[0]["rows"] if number]

    def furthest(name: str) -> float:
        ours = [np.array(one[name]) for one in found]
        return float(max(np.abs(one - np.array(single[name])).max() for one in ours))

    return {
        "updates": len(rates),
        "examples on each device": " + ".join(rows),
        "rates differ between devices": float(np.ptp(rates, axis=1).max()),
        "rates differ from one device's": float(np.abs(rates - np.array(single["rates"])).max()),
        "losses differ by": furthest("loss"),
        "weights differ by": furthest("weights"),
    }


def kill(python: str, folder: str) -> dict[str, Any]:
    """Kills the second of two processes in mid-run; returns how the first ended and what it left.

    Args:
        python: An interpreter that has JAX.
        folder: Where to keep the checkpoints.
    """
    killed_after = [None, KILLED_AFTER]
    first, second = start(python, processes=2, folder=folder, killed_after=killed_after)
    killed, *_ = second.end()
    begin = time.perf_counter()
    status, _, complaints = first.end()
    seconds = time.perf_counter() - begin
    lines = complaints.splitlines()
    said = [number for number, line in enumerate(lines) if line.startswith("Process 0 of 2")]
    return {
        "statuses": [status, killed],
        "seconds": seconds,
        "said": "\n".join(lines[said[0] : said[0] + 2]) if said else complaints[-2000:],
        "checkpoints": sorted(path.name for path in Path(folder).glob("checkpoint-*")),
    }


def spread(python: str, single: dict[str, Any]) -> None:
    """Trains in every arrangement, prints and writes.

    Args:
        python: An interpreter that has JAX.
        single: What a training on one device printed.
    """
    rows = []
    for name, options in ARRANGEMENTS.items():
        found = train(python, **options) if options else [single]
        rows.append({"arrangement": name, **compare(found, single)})
    about = (
        "a network of two dense layers on digits, batch 128, seed 42, four epochs of a triangular "
        "rate; differences are the largest, in absolute value"
    )
    write("scaling", rows, about)


def interrupt(python: str, single: dict[str, Any]) -> None:
    """Kills one of two processes, goes on with one, prints and writes.

    Args:
        python: An interpreter that has JAX.
        single: What a training on one device printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        killed = kill(python, folder)
        resumed = compare(train(python, folder=folder), last_epochs(single))
    rows = [
        {"what": "killed", "came out": f"process 1, after update {KILLED_AFTER}"},
        {"what": "process 0 ended with status", "came out": killed["statuses"][0]},
        {"what": "after less than so many seconds", "came out": math.ceil(killed["seconds"])},
        {"what": "its last words", "came out": killed["said"]},
        {"what": "last checkpoint", "came out": killed["checkpoints"][-1]},
        {"what": "updates of the resumed run, on one device", "came out": resumed["updates"]},
        {"what": "examples in all", "came out": resumed["examples on each device"]},
        {"what": "rates differ", "came out": resumed["rates differ from one device's"]},
        {"what": "weights differ", "came out": resumed["weights differ by"]},
    ]
    write("scaling_killed", rows, "one of two processes killed in mid-run, and the run resumed")


def last_epochs(single: dict[str, Any]) -> dict[str, Any]:
    """Returns an uninterrupted training's numbers from the third of its four epochs on."""
    return {
        **single,
        **{name: single[name][len(single[name]) // 2 :] for name in ("rates", "loss")},
    }


def main() -> None:
    """Trains on one device, and compares the rest with it."""
    single = train(sys.executable)[0]
    spread(sys.executable, single)
    interrupt(sys.executable, single)


if __name__ == "__main__":
    main()

"""Records the runs that the book's pages show: one JSON file each, in book/runs/.

    python tools/record.py budgets     chapters 3 and 10: the methods at short and long budgets
    python tools/record.py cifar10     chapter 6: the methods on CIFAR-10, on a narrower network
    python tools/record.py full        chapter 6: the experiment at its full size, for a GPU

Resumable: a run that has its file is not made again (to have it anew, delete the file, and the
range test's beside it), and one that was interrupted goes on from its last epoch's end. Of the
small runs on digits several go on at once, each in a process with its share of the cores.

`--minutes` ends the recording in time: what is unfinished goes on with the next call. The exit
status is 0 if the study is complete and 1 if runs are missing. For the study `full` on a machine
with a GPU see tools/gpu.py.

A rehearsal makes the same runs on a narrower network (`--width`) or in fewer epochs
(`--num-epochs`). It needs a folder of its own (`--runs`) and adds nothing to the book.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import keras

from clr import Experiment, Run, build, datasets, lr_range_test, train
from clr.range_test import RangeTest
from clr.training import METHODS
from clr.training.records import RANGE_TEST, RUNS

CHECKPOINTS = RUNS.parents[1] / "_build" / "record"
SEEDS = range(5)
SMALL = Experiment.from_profile("quick")
BUDGETS = {"short": 4, "long": 12}  # Epochs.
DECIDED = ("constant", "step", "cosine", "triangular", "one_cycle")
COMPARED = tuple(method for method in METHODS if method != "exp_range")

Task = tuple[str, Experiment, str | None]  # The file's name, what to train, how to read the bounds.


def budgets() -> Iterator[Task]:
    """Yields every method at a short and at a long budget, those of chapter 10 with all seeds."""
    for seed in SEEDS:
        for method in COMPARED if seed < 3 else DECIDED:
            for name, epochs in BUDGETS.items():
                experiment = replace(
                    SMALL,
                    clr_method=method,
                    width=0.125,
                    num_epochs=epochs,
                    step_size=epochs // 4,
                    seed=seed,
                )
                yield f"budgets/{name}-{method}-seed-{seed}", experiment, None


def cifar10() -> Iterator[Task]:
    """Yields the methods on CIFAR-10's own images, three cycles each; what matters most first.

    The runs in book/runs/cifar10, on re-encoded images, stay until these are complete.
    """
    narrow = Experiment(width=0.25, num_epochs=12, step_size=2)
    for method in ("triangular", "one_cycle", "triangular2", "linear"):
        yield f"cifar10/{method}-seed-42", replace(narrow, clr_method=method), None
    for method in ("constant", "step", "exp_range"):
        yield f"cifar10/{method}-seed-42", replace(narrow, clr_method=method), None
    for seed in (43, 44):
        for method in ("triangular", "one_cycle", "triangular2", "linear", "constant"):
            experiment = replace(narrow, clr_method=method, seed=seed)
            yield f"cifar10/{method}-seed-{seed}", experiment, None
    for seed in (42, 43, 44):
        yield f"cifar10/range-test-seed-{seed}", replace(narrow, seed=seed), "minimum"


def full() -> Iterator[Task]:
    """Yields the tutorial's experiment, its rivals, and one cycle in a quarter of the epochs.

    The most valuable comes first, because time on a GPU may be short.
    """
    once = Experiment(clr_method="one_cycle", num_epochs=24, max_lr=0.1, cycle_momentum=True)
    for seed in (42, 43, 44):
        for method in ("triangular", "triangular2"):
            yield f"full/{method}-seed-{seed}", Experiment(clr_method=method, seed=seed), None
        yield f"full/one_cycle-seed-{seed}", replace(once, seed=seed), None
    yield "full/constant-seed-42", Experiment(clr_method="constant"), None
    yield "full/range-test-seed-42", Experiment(), "valley"


def range_test(experiment: Experiment, data: datasets.Dataset) -> RangeTest:
    """Returns what a range test finds on the network as it is before training."""
    keras.utils.set_random_seed(experiment.seed)
    model = build(experiment, data)
    batches = datasets.Batches(data.x_train, data.y_train, experiment.batch_size, experiment.seed)
    return lr_range_test(model, batches, verbose=0)


def record(task: Task, runs: Path, checkpoints: Path) -> None:
    """Makes one run and saves it."""
    name, experiment, reading = task
    keras.utils.clear_session()
    data = datasets.load(experiment.dataset)
    if reading is not None:
        curve = runs / f"{name}{RANGE_TEST}"
        if not curve.exists():
            range_test(experiment, data).to_json(curve)
        # From the file also the first time: on a GPU a second range test could suggest other
        # bounds, and an interrupted training must go on with its own.
        min_lr, max_lr = RangeTest.from_json(curve).suggest(reading)
        experiment = replace(experiment, min_lr=min_lr, max_lr=max_lr)
    run = train(experiment, data, verbose=False, run_dir=checkpoints / name)
    run.commit = os.environ.get("CLR_COMMIT", run.commit)  # For a copy without its `.git`.
    run.save(runs / f"{name}.json")
    shutil.rmtree(checkpoints / name)


def record_all(
    tasks: list[Task], runs: Path, checkpoints: Path, jobs: int, end: float | None
) -> None:
    """Makes runs, several at once, each in a process of its own.

    So the memory of each is free afterwards, and one that fails leaves the others alone.

    Args:
        tasks: The runs to make, in this order.
        runs: The folder to save them in.
        checkpoints: The folder of their checkpoints.
        jobs: How many to make at once.
        end: When to stop, on the monotonic clock; `None` for when all are made.
    """
    context, waiting, count = get_context("spawn"), iter(tasks), 0
    running: dict[Any, tuple[str, BaseProcess]] = {}  # By what tells that a process has ended.
    try:
        while True:
            for task in islice(waiting, jobs - len(running)):
                process: BaseProcess = context.Process(
                    target=record, args=(task, runs, checkpoints)
                )
                process.start()
                running[process.sentinel] = (task[0], process)
            left = None if end is None else max(0, end - time.monotonic())
            if not running or not (ended := wait(running, left)):  # All are made, or time is up.
                break
            for sentinel in ended:
                name, process = running.pop(sentinel)
                process.join()
                count += 1
                said = f"failed with exit status {process.exitcode}"
                if (path := runs / f"{name}.json").exists():
                    said = f"{Run.load(path).test_accuracy:.4f}"
                print(f"{count}/{len(tasks)}  {name}  {said}", flush=True)
    finally:
        for _, process in running.values():
            process.kill()
            process.join()


def rehearsed(task: Task, width: float | None, num_epochs: int | None) -> Task:
    """Returns a task with a narrower network or fewer epochs, and as many cycles if it can be."""
    name, experiment, reading = task
    epochs = num_epochs or experiment.num_epochs
    step_size = max(1, round(experiment.step_size * epochs / experiment.num_epochs))
    width = width or experiment.width
    experiment = replace(experiment, width=width, num_epochs=epochs, step_size=step_size)
    return name, experiment, reading


def report(tasks: list[Task], runs: Path, checkpoints: Path) -> None:
    """Prints which runs are done, and how far the missing ones are."""
    for name, experiment, _ in tasks:
        if (path := runs / f"{name}.json").exists():
            print(f"done     {name}  {Run.load(path).test_accuracy:.4f}")
        else:
            saved = (checkpoints / name).glob("checkpoint-*.npz")
            epochs = max((int(path.stem.split("-")[1]) for path in saved), default=0)
            print(f"missing  {name}  {epochs} of {experiment.num_epochs} epochs")


STUDIES = {"budgets": budgets, "cifar10": cifar10, "full": full}
ONE_AT_A_TIME = ("cifar10", "full")  # One training has work for every core.


def above_zero(kind: type) -> Callable[[str], float]:
    """Returns a reader of options that must be above 0."""

    def read(text: str) -> float:
        if not 0 < (value := kind(text)) < float("inf"):
            raise argparse.ArgumentTypeError(f"must be above 0. Received: {text}")
        return value

    read.__name__ = kind.__name__  # Of which argparse speaks if the text is no number.
    return read


def main() -> int:
    """Records what is missing of the study that the command line names."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, whole, real = parser.add_argument, above_zero(int), above_zero(float)
    add("study", choices=STUDIES)
    add("--jobs", type=whole, help="runs at once (default: of small ones one a core)")
    add("--minutes", type=real, help="stop after this time (default: when all is done)")
    add("--runs", type=Path, default=RUNS, help="folder of the recorded runs")
    add("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of the checkpoints")
    add("--width", type=real, help="in a rehearsal: the network's width")
    add("--num-epochs", type=whole, help="in a rehearsal: the epochs of each run")
    options = parser.parse_args()
    tasks = list(STUDIES[options.study]())
    if options.width or options.num_epochs:
        if options.runs.resolve() == RUNS.resolve():
            parser.error(
                "--width and --num-epochs are for rehearsals, which need another folder than the "
                f"book's. Received: --runs {options.runs}"
            )
        tasks = [rehearsed(task, options.width, options.num_epochs) for task in tasks]
    jobs = options.jobs or (1 if options.study in ONE_AT_A_TIME else os.cpu_count() or 1)
    missing = [task for task in tasks if not (options.runs / f"{task[0]}.json").exists()]
    for name, *_ in missing:
        (options.runs / name).parent.mkdir(parents=True, exist_ok=True)
    # Read by TensorFlow and its libraries when a process starts.
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    os.environ |= {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    # As Ctrl-C: the runs' processes stop too, and the next call finds no one at its checkpoints.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end = started + 60 * options.minutes if options.minutes else None
    record_all(missing, options.runs, options.checkpoints, jobs, end)
    if missing:
        report(tasks, options.runs, options.checkpoints)
    return int(any(not (options.runs / f"{name}.json").exists() for name, *_ in tasks))


if __name__ == "__main__":
    sys.exit(main())

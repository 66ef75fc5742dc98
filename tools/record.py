"""Records the runs that the book's pages show: one JSON file each, in clr/runs/.

    python tools/record.py budgets     chapter 6:  the methods at short and long budgets
    python tools/record.py cifar10     chapter 7:  the methods on CIFAR-10, on a narrow network
    python tools/record.py averaged    chapter 10: averages of weights, on digits and on CIFAR-10
    python tools/record.py recipe      chapter 7:  the recipe, whole and without each ingredient
    python tools/record.py processor   chapter 7:  as near to the full size as a processor gets
    python tools/record.py full        chapter 7:  the experiment at its full size, for a GPU

Resumable: a run that has its file is not made again (to have it again, delete the file), and one
that was interrupted goes on from its last epoch's end. Of the small runs several go on at once,
each in a process with its share of the cores.

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

from clr import Experiment, Run, train
from clr.training import INGREDIENTS, METHODS
from clr.training.records import RUNS

CHECKPOINTS = RUNS.parents[1] / "_build" / "record"
SEEDS = range(5)
SMALL = Experiment.from_profile("quick")
BUDGETS = {"short": 4, "long": 12}  # Epochs.
CIFAR10_SEEDS = (42, 43, 44)
NARROW: dict[str, Any] = {"width": 0.25, "num_epochs": 12, "step_size": 2}
# Ten times the tutorial's rate in a quarter of its epochs.
ONE_CYCLE: dict[str, Any] = {
    "clr_method": "one_cycle",
    "num_epochs": 24,
    "max_lr": 0.1,
    "cycle_momentum": True,
}
TUTORIAL = Experiment()
DECIDED = ("constant", "step", "cosine", "triangular", "one_cycle")
AVERAGED = ("triangular", "constant", "one_cycle", "triangular2")
COMPARED = tuple(method for method in METHODS if method != "exp_range")

Task = tuple[str, Experiment]  # The file's name, and what to train.


def budgets() -> Iterator[Task]:
    """Yields every method at a short and at a long budget, those of chapter 6 with all seeds."""
    for seed in SEEDS:
        for method in COMPARED if seed < 3 else DECIDED:
            for name, epochs in BUDGETS.items():
                yield f"budgets/{name}-{method}-seed-{seed}", on_digits(method, epochs, seed)


def on_digits(method: str, epochs: int, seed: int) -> Experiment:
    """Returns a small experiment of two cycles."""
    options: dict[str, Any] = {"num_epochs": epochs, "step_size": epochs // 4, "seed": seed}
    return replace(SMALL, clr_method=method, **options)


def cifar10() -> Iterator[Task]:
    """Yields the methods on a narrow network, three cycles each; what matters most first."""
    decided = ("triangular", "one_cycle", "triangular2", "constant")
    for methods in (decided, ("linear", "step", "auto")):
        for seed in CIFAR10_SEEDS:
            for method in methods:
                experiment = Experiment(**NARROW, seed=seed)
                if method == "auto":
                    experiment = replace(experiment, max_lr="auto", min_lr=None)
                else:
                    experiment = replace(experiment, clr_method=method)
                yield f"cifar10/{method}-seed-{seed}", experiment


def averaged() -> Iterator[Task]:
    """Yields methods whose weights are averaged, on digits and then as in `cifar10`.

    A verdict needs three seeds, so CIFAR-10 has all seeds of a method before the next method.
    """
    for seed in SEEDS:
        for method in AVERAGED:
            experiment = on_digits(method, BUDGETS["long"], seed)
            yield f"averaged/digits-{method}-seed-{seed}", replace(experiment, average=True)
    for method in AVERAGED:
        for seed in CIFAR10_SEEDS:
            experiment = Experiment(**NARROW, clr_method=method, seed=seed, average=True)
            yield f"averaged/cifar10-{method}-seed-{seed}", experiment


def recipe() -> Iterator[Task]:
    """Yields the book's recipe on the narrow network: whole, and without each ingredient.

    A verdict needs three seeds, so each ingredient has all seeds before the next one.
    """
    whole = Experiment.from_profile("recipe", width=0.25, num_epochs=12)
    for seed in CIFAR10_SEEDS:
        yield f"recipe/all-seed-{seed}", replace(whole, seed=seed)
    for ingredient, options in INGREDIENTS.items():
        without = {option: getattr(TUTORIAL, option) for option in options}
        for seed in CIFAR10_SEEDS:
            yield f"recipe/no_{ingredient}-seed-{seed}", replace(whole, **without, seed=seed)


def processor() -> Iterator[Task]:
    """Yields what a processor without a GPU trains in hours, in half precision."""
    for method in ("recipe", "one_cycle"):
        yield f"processor/{method}-seed-42", replace(named(method), dtype="mixed_bfloat16")
    for method in ("triangular", "triangular2"):
        experiment = replace(named(method), width=0.5, dtype="mixed_bfloat16")
        yield f"processor/{method}-seed-42", experiment


def full() -> Iterator[Task]:
    """Yields the tutorial's experiment, its rivals, and one cycle in a quarter of the epochs.

    The most valuable comes first, because time on a GPU may be short.
    """
    for seed in CIFAR10_SEEDS:
        for method in ("recipe", "triangular", "triangular2", "one_cycle"):
            yield f"full/{method}-seed-{seed}", named(method, seed)
    for method in ("auto", "constant"):
        yield f"full/{method}-seed-42", named(method)


def named(method: str, seed: int = 42) -> Experiment:
    """Returns the experiment at full size that a run's name says."""
    if method == "recipe":
        return Experiment.from_profile("recipe", seed=seed)
    if method == "auto":
        return Experiment(max_lr="auto", seed=seed)
    if method == "one_cycle":
        return Experiment(**ONE_CYCLE, seed=seed)
    return Experiment(clr_method=method, seed=seed)


def record(task: Task, runs: Path, checkpoints: Path) -> None:
    """Makes one run and saves it."""
    name, experiment = task
    keras.utils.clear_session()
    run = train(experiment, verbose=False, run_dir=checkpoints / name)
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
    name, experiment = task
    epochs = num_epochs or experiment.num_epochs
    step_size = max(1, round(experiment.step_size * epochs / experiment.num_epochs))
    width = width or experiment.width
    experiment = replace(experiment, width=width, num_epochs=epochs, step_size=step_size)
    return name, experiment


def report(tasks: list[Task], runs: Path, checkpoints: Path) -> None:
    """Prints which runs are done, and how far the missing ones are."""
    for name, experiment in tasks:
        if (path := runs / f"{name}.json").exists():
            print(f"done     {name}  {Run.load(path).test_accuracy:.4f}")
        else:
            saved = (checkpoints / name).glob("checkpoint-*.npz")
            epochs = max((int(path.stem.split("-")[1]) for path in saved), default=0)
            print(f"missing  {name}  {epochs} of {experiment.num_epochs} epochs")


STUDIES = {
    "budgets": budgets,
    "cifar10": cifar10,
    "averaged": averaged,
    "recipe": recipe,
    "processor": processor,
    "full": full,
}
ONE_AT_A_TIME = ("processor", "full")  # One training has work for every core.


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

"""Records the runs that the book's pages show: one JSON file each, in book/runs/.

    python tools/record.py claim       chapter 4: a grid of constant rates, and range test with CLR
    python tools/record.py budgets     chapters 3 and 10: the methods at short and long budgets
    python tools/record.py cifar10     chapter 6: the methods on CIFAR-10, on a narrower network
    python tools/record.py full        chapter 6: the experiment at its full size, for a GPU

Resumable: a run that has its file is not made again (to have it anew, delete the file, and the
range test's beside it), and one that was interrupted goes on from its last epoch's end. Of the
small runs on digits several go on at once, each in a process with its share of the cores.
"""

import argparse
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context

import keras

from clr import Experiment, build, datasets, lr_range_test, train
from clr.range_test import RangeTest
from clr.training import METHODS
from clr.training.records import RANGE_TEST, RUNS

CHECKPOINTS = RUNS.parents[1] / "_build" / "record"
SEEDS = range(5)
SMALL = Experiment.from_profile("quick")
# Thirteen constant rates, three to a decade: what one tries who knows nothing.
GRID = [round(10 ** (k / 3), 6) for k in range(-12, 1)]
BUDGETS = {"short": 4, "long": 12}  # Epochs.
DECIDED = ("constant", "step", "cosine", "triangular", "one_cycle")
COMPARED = tuple(method for method in METHODS if method != "exp_range")

Task = tuple[str, Experiment, str | None]  # The file's name, what to train, how to read the bounds.


def claim() -> Iterator[Task]:
    """Yields the runs whose bounds a range test finds, read in two ways, and the grid."""
    for seed in SEEDS:
        for reading in ("valley", "minimum"):
            yield f"claim/{reading}-seed-{seed}", replace(SMALL, seed=seed), reading
        for rate in GRID:
            constant = replace(SMALL, clr_method="constant", max_lr=rate, min_lr=0, seed=seed)
            yield f"claim/constant-{rate:g}-seed-{seed}", constant, None


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
    """Yields the methods on CIFAR-10, three cycles each; what matters most first."""
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
    """Yields the tutorial's experiment, its rivals, and one cycle in a quarter of the epochs."""
    for method in ("triangular", "triangular2", "constant"):
        yield f"full/{method}-seed-42", Experiment(clr_method=method), None
    yield "full/range-test-seed-42", Experiment(), "valley"
    once = Experiment(clr_method="one_cycle", num_epochs=24, max_lr=0.1, cycle_momentum=True)
    for seed in (42, 43):
        yield f"full/one_cycle-seed-{seed}", replace(once, seed=seed), None


def range_test(experiment: Experiment, data: datasets.Dataset) -> RangeTest:
    """Returns what a range test finds on the network as it is before training."""
    keras.utils.set_random_seed(experiment.seed)
    model = build(experiment, data)
    batches = datasets.Batches(data.x_train, data.y_train, experiment.batch_size, experiment.seed)
    return lr_range_test(model, batches, verbose=0)


def record(task: Task) -> str:
    """Makes one run, saves it, and returns its name and test accuracy."""
    name, experiment, reading = task
    keras.utils.clear_session()
    data = datasets.load(experiment.dataset)
    if reading is not None:
        curve = RUNS / f"{name}{RANGE_TEST}"
        if not curve.exists():
            range_test(experiment, data).to_json(curve)
        # From the file also the first time: on a GPU a second range test could suggest other
        # bounds, and an interrupted training must go on with its own.
        min_lr, max_lr = RangeTest.from_json(curve).suggest(reading)
        experiment = replace(experiment, min_lr=min_lr, max_lr=max_lr)
    checkpoints = CHECKPOINTS / name
    run = train(experiment, data, verbose=False, run_dir=checkpoints)
    run.save(RUNS / f"{name}.json")
    shutil.rmtree(checkpoints)
    return f"{name}  {run.test_accuracy:.4f}"


STUDIES = {"claim": claim, "budgets": budgets, "cifar10": cifar10, "full": full}
ONE_AT_A_TIME = ("cifar10", "full")  # One training has work for every core.


def main() -> None:
    """Records what is missing of the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--jobs", type=int, help="runs at once (default: of small ones one a core)")
    options = parser.parse_args()
    jobs = options.jobs or (1 if options.study in ONE_AT_A_TIME else os.cpu_count() or 1)
    tasks = [t for t in STUDIES[options.study]() if not (RUNS / f"{t[0]}.json").exists()]
    (RUNS / options.study).mkdir(parents=True, exist_ok=True)
    # Read by TensorFlow and its libraries when a process starts.
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    os.environ |= {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    # As Ctrl-C: the pool's processes stop too, and the next call finds no one at its checkpoints.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A process serves for a few runs only, for TensorFlow keeps some memory of each.
    with get_context("spawn").Pool(jobs, maxtasksperchild=4) as pool:
        for number, said in enumerate(pool.imap_unordered(record, tasks), start=1):
            print(f"{number}/{len(tasks)}  {said}", flush=True)


if __name__ == "__main__":
    main()

"""Records the runs that the book's pages show: one JSON file each, in book/runs/.

    python tools/record.py claim       chapter 4: a grid of constant rates, and range test with CLR
    python tools/record.py budgets     chapters 3 and 10: the methods at short and long budgets

Resumable: a run that has its file is not made again; to have it anew, delete the file. The studies
are many small runs, and several go on at once, each in a process with its share of the cores.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context

import keras

from clr import Experiment, build, datasets, lr_range_test, train
from clr.methods import METHODS
from clr.records import RANGE, RUNS

SEEDS = range(5)
SMALL = Experiment.from_profile("quick")
# Thirteen constant rates, three to a decade: what one tries who knows nothing.
GRID = [round(10 ** (k / 3), 6) for k in range(-12, 1)]
BUDGETS = {"short": 4, "long": 12}  # Epochs.
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
    """Yields every method at a short and at a long budget."""
    for name, epochs in BUDGETS.items():
        for method in COMPARED:
            for seed in SEEDS:
                experiment = replace(
                    SMALL,
                    clr_method=method,
                    num_epochs=epochs,
                    step_size=epochs // 4,
                    seed=seed,
                )
                yield f"budgets/{name}-{method}-seed-{seed}", experiment, None


def record(name: str, experiment: Experiment, reading: str | None) -> float:
    """Makes one run, saves it, and returns its test accuracy."""
    keras.utils.clear_session()
    data = datasets.load(experiment.dataset)
    if reading is not None:
        keras.utils.set_random_seed(experiment.seed)
        model = build(experiment, data)
        batches = datasets.Batches(
            data.x_train, data.y_train, experiment.batch_size, experiment.seed
        )
        result = lr_range_test(model, batches, verbose=0)
        result.to_json(RUNS / f"{name}{RANGE}")
        min_lr, max_lr = result.suggest(reading)
        experiment = replace(experiment, min_lr=min_lr, max_lr=max_lr)
    run = train(experiment, data, verbose=False)
    run.save(RUNS / f"{name}.json")
    return run.test_accuracy


STUDIES = {"claim": claim, "budgets": budgets}


def main() -> None:
    """Records what is missing of the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once")
    options = parser.parse_args()
    tasks = [t for t in STUDIES[options.study]() if not (RUNS / f"{t[0]}.json").exists()]
    (RUNS / options.study).mkdir(parents=True, exist_ok=True)
    # Read by TensorFlow and its libraries when a process starts.
    threads = str(max(1, (os.cpu_count() or 1) // options.jobs))
    os.environ |= {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        futures = {pool.submit(record, *task): task[0] for task in tasks}
        for number, future in enumerate(as_completed(futures), start=1):
            print(
                f"{number}/{len(tasks)}  {futures[future]}  {future.result():.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""The small experiment on each backend of Keras, with the same seeds: the accuracy it comes to.

python benchmarks/backends.py JAX TORCH    JAX, TORCH: interpreters that have these
"""

import json
import os
import statistics
import sys

from harness import ROOT, measured, write

SEEDS = range(5)
WIDTH = 0.25


def main() -> None:
    """Trains on each backend, prints and writes."""
    interpreters = (sys.executable, *sys.argv[1:])
    rows = []
    for backend, python in zip(("tensorflow", "jax", "torch"), interpreters, strict=True):
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        printed, _, _ = measured([python, __file__, "here"], env=environment)
        found = json.loads(printed.splitlines()[-1])
        rows.append(
            {
                "backend": f"{backend} {found['version']}",
                "mean test accuracy": statistics.mean(found["accuracy"]),
                "lowest": min(found["accuracy"]),
                "highest": max(found["accuracy"]),
            }
        )
    about = f"the quick profile at width {WIDTH}, on digits, seeds {SEEDS[0]} to {SEEDS[-1]}"
    write("backends", rows, about)


def here() -> None:
    """Trains on the backend of this process; prints the accuracies as one line of JSON."""
    from clr import Experiment, train
    from clr.training import versions

    accuracy = [
        train(Experiment.from_profile("quick", width=WIDTH, seed=seed), verbose=False).test_accuracy
        for seed in SEEDS
    ]
    print(json.dumps({"accuracy": accuracy, "version": versions()[os.environ["KERAS_BACKEND"]]}))


if __name__ == "__main__":
    here() if sys.argv[1:] == ["here"] else main()

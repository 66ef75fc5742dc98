"""A run for tests of tools/record.py, without Keras, so that a process starts at once."""

import os
import shutil
import time
from pathlib import Path


def record(task, runs: Path, checkpoints: Path) -> None:
    """Goes on from the last checkpoint, and past the first epoch only when the gate is open."""
    name, experiment = task
    if experiment.num_epochs == 0:
        os.abort()  # As a run that is out of memory.
    folder = checkpoints / name
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(len(list(folder.iterdir())), experiment.num_epochs):
        while epoch and not experiment.gate.exists():
            time.sleep(0.05)
        (folder / f"checkpoint-{epoch + 1:05}.npz").touch()
    shutil.copy(experiment.run, runs / f"{name}.json")

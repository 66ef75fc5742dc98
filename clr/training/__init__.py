"""From an `Experiment` (what to train) through `train` to a `Run` (what happened)."""

from typing import Any

from clr.training import machine
from clr.training.bounds import FoundBounds
from clr.training.checkpoints import Checkpoints
from clr.training.experiment import (
    AUTO,
    DTYPES,
    INGREDIENTS,
    METHODS,
    OPTIMIZERS,
    PROFILES,
    Experiment,
    resolve_profile,
)
from clr.training.fitting import build, train
from clr.training.machine import accelerators, hardware, versions
from clr.training.records import recorded, recorded_benchmark
from clr.training.run import Run
from clr.training.runtime import made_with, prepare
from clr.training.sweeps import sweep

__all__ = [
    "AUTO",
    "DTYPES",
    "INGREDIENTS",
    "METHODS",
    "OPTIMIZERS",
    "PROFILES",
    "Checkpoints",
    "Experiment",
    "FoundBounds",
    "Run",
    "accelerators",
    "build",
    "hardware",
    "made_with",
    "prepare",
    "recorded",
    "recorded_benchmark",
    "resolve_profile",
    "sweep",
    "train",
    "versions",
]


def __getattr__(name: str) -> Any:
    if name == "COMMIT":  # It was once found on import.
        return machine.commit()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

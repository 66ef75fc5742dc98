"""From an `Experiment` (what to train) through `train` to a `Run` (what happened)."""

from clr.training.fitting import (
    COMMIT,
    DTYPES,
    PROFILES,
    Experiment,
    Run,
    accelerators,
    build,
    hardware,
    made_with,
    resolve_profile,
    train,
    versions,
)

__all__ = [
    "COMMIT",
    "DTYPES",
    "PROFILES",
    "Experiment",
    "Run",
    "accelerators",
    "build",
    "hardware",
    "made_with",
    "resolve_profile",
    "train",
    "versions",
]

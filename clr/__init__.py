"""Cyclical learning rates for Keras 3.

The callback is `CyclicLR`, the same inside the compiled step `CyclicalLearningRate`; both draw on
the one formula in `clr.policies`. `Experiment`, `train` and `Run` do the tutorial's training.
`__version__` is the package's version.
"""

from clr import datasets, plots, policies
from clr.averaging import AveragedWeights
from clr.callback import CyclicLR, OneCycleLR
from clr.models import MiniGoogLeNet
from clr.momentum import cycle_momentum
from clr.policies import CyclicPolicy, OneCyclePolicy
from clr.range_test import lr_range_test
from clr.schedule import CyclicalLearningRate, OneCycleLearningRate
from clr.snapshots import Snapshots
from clr.training import (
    Experiment,
    Run,
    build,
    made_with,
    prepare,
    recorded,
    recorded_benchmark,
    records,
    resolve_profile,
    runtime,
    sweep,
    sweeps,
    train,
)

__version__ = "0.1.0"  # The one place: the wheel's version is read from here.

__all__ = [
    "AveragedWeights",
    "CyclicLR",
    "CyclicPolicy",
    "CyclicalLearningRate",
    "Experiment",
    "MiniGoogLeNet",
    "OneCycleLR",
    "OneCycleLearningRate",
    "OneCyclePolicy",
    "Run",
    "Snapshots",
    "build",
    "cycle_momentum",
    "datasets",
    "lr_range_test",
    "made_with",
    "plots",
    "policies",
    "prepare",
    "recorded",
    "recorded_benchmark",
    "records",
    "resolve_profile",
    "runtime",
    "sweep",
    "sweeps",
    "train",
]

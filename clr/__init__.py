"""Cyclical learning rates for Keras 3.

The callback is `CyclicLR`, the same inside the compiled step `CyclicalLearningRate`; both draw on
the one formula in `clr.policies`. `Experiment`, `train` and `Run` do the tutorial's training.
"""

from clr import datasets, plots, policies
from clr.callback import CyclicLR
from clr.models import MiniGoogLeNet
from clr.policies import CyclicPolicy
from clr.range_test import lr_range_test
from clr.schedule import CyclicalLearningRate
from clr.training import Experiment, Run, made_with, resolve_profile, train

__all__ = [
    "CyclicLR",
    "CyclicPolicy",
    "CyclicalLearningRate",
    "Experiment",
    "MiniGoogLeNet",
    "Run",
    "datasets",
    "lr_range_test",
    "made_with",
    "plots",
    "policies",
    "resolve_profile",
    "train",
]

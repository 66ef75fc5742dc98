"""Cycles a momentum on one device and on two logical ones, in a process of its own; prints weights.

The devices must be made before TensorFlow starts, so no test that shares a process with others can.
"""

import json
import sys
import tempfile
from pathlib import Path

from two_devices import STRATEGIES, X, Y  # isort: skip  Before TensorFlow starts.

import keras
import numpy as np

import clr

BATCH, EPOCHS = 8, 4
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9)),
}


class FailsOnce(keras.optimizers.SGD):
    """Fails in the middle of its first update, on all replicas."""

    failed = False

    def update_step(self, gradient, variable, learning_rate):
        if not FailsOnce.failed:
            FailsOnce.failed = True
            raise RuntimeError("on purpose")
        super().update_step(gradient, variable, learning_rate)


def compiled(strategy, make, **options):
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.set_weights([np.array([[0.5], [1.5], [0.9], [-0.5]]), np.zeros(1)])
        model.compile(make(), "mse", jit_compile=False, **options)
    return model


def fit(model, *callbacks):
    model.fit(X, Y, BATCH, EPOCHS, shuffle=False, callbacks=list(callbacks), verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()]).tolist()


def constant():
    return clr.CyclicLR(1e-3, 1e-2, 8)


def cycle():
    momenta = {"cycle_momentum": True, "base_momentum": 0.3, "max_momentum": 0.9}
    return clr.CyclicLR(1e-3, 1e-2, 8, **momenta)


def run_eagerly():
    """In a process of its own: TensorFlow can't reduce over devices both ways in one."""
    for place, strategy in STRATEGIES.items():
        model = compiled(strategy(), OPTIMIZERS["sgd"], run_eagerly=True)
        yield f"eager {place}", fit(model, cycle())


def main():
    found = {}
    for place, strategy in STRATEGIES.items():
        for name, make in OPTIMIZERS.items():
            model = compiled(strategy(), make)
            found[name, place] = fit(model, cycle())
            found[name, place, "then"] = fit(model)
        found["constant", place] = fit(compiled(strategy(), OPTIMIZERS["sgd"]), constant())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        checkpoint = keras.callbacks.ModelCheckpoint(path)
        model = compiled(STRATEGIES["two"](), OPTIMIZERS["sgd"])
        fit(model, cycle(), checkpoint)
        found["momenta"] = [model.optimizer.momentum, keras.models.load_model(path).optimizer]
        found["momenta"][1] = found["momenta"][1].momentum

    model = compiled(STRATEGIES["two"](), lambda: FailsOnce(0.01, momentum=0.9))
    try:
        fit(model, cycle())
    except RuntimeError:
        found["momenta"].append(model.optimizer.momentum)
    found["sgd", "after a failure"] = fit(model, cycle())
    return {key if isinstance(key, str) else " ".join(key): v for key, v in found.items()}


json.dump(dict(run_eagerly()) if sys.argv[1:] == ["eager"] else main(), sys.stdout)

"""What `clr.train` adds to the bare compiled step, with a small and with a large network.

python benchmarks/loop.py [JAX]    JAX: an interpreter that has JAX, to measure on it as well
"""

import json
import os
import sys
import time
from typing import Any

from harness import ROOT, measured, quartiles, ratios, write

REPEATS = 9
# Name, width, batch size, steps in an epoch. A GPU makes the steps that a processor is too slow for.
NETWORKS = (("small", 0.125, 32, 192), ("large", 1.0, 64, 24))


def here() -> None:
    """Measures on the backend of this process; prints a list of results as one line of JSON."""
    import keras
    import numpy as np

    import clr
    from clr.training import hardware, versions

    on_gpu = bool(hardware()["accelerators"])
    step = bare_step()
    found = []
    for name, width, batch_size, steps in NETWORKS:
        steps *= 8 if on_gpu else 1
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (batch_size * steps, 32, 32, 3), "uint8"), rng.integers(0, 10, batch_size * steps)
        data = clr.datasets.from_arrays(x, y, x[:256], y[:256], name="noise", classes=tuple("abcdefghij"))
        experiment = clr.Experiment(width=width, batch_size=batch_size, num_epochs=REPEATS + 1, step_size=1)
        turns = Turns(step(clr.build(experiment, data), data.x_train[:batch_size], data.y_train[:batch_size]), steps)
        clr.train(experiment, data, verbose=False, callbacks=[turns])
        found.append({"network": name, "steps": steps, **turns.seconds})
    print(json.dumps({"found": found, "hardware": hardware(), "versions": versions()}))


def bare_step():
    import keras

    def tensorflow(model, x, y):
        import tensorflow as tf

        step = tf.function(lambda batch: model.train_step(batch), jit_compile=model.jit_compile)
        batch = (tf.constant(x), tf.constant(y))

        def run(steps):
            for _ in range(steps):
                logs = step(batch)
            float(logs["loss"])

        return run

    def jax(model, x, y):
        import jax

        model.optimizer.build(model.trainable_variables)
        model._symbolic_build(data_batch=(x, y))
        step = jax.jit(model.train_step, donate_argnums=0)
        batch = (jax.device_put(x), jax.device_put(y))
        state = [[v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables)]
        holder = [tuple(state)]

        def run(steps):
            state = holder[0]
            for _ in range(steps):
                logs, state = step(state, batch)
            jax.block_until_ready(state)
            holder[0] = state

        return run

    return {"tensorflow": tensorflow, "jax": jax}[keras.backend.backend()]


import keras  # noqa


class Turns(keras.callbacks.Callback):
    """Times the epochs of a training, and the bare step in turn with them."""

    def __init__(self, bare, steps):
        super().__init__()
        self.bare, self.steps = bare, steps
        self.seconds = {"bare": [], "train": [], "with validation": []}

    def on_epoch_begin(self, epoch, logs=None):
        begin = time.perf_counter()
        self.bare(self.steps)
        self.begin = time.perf_counter()
        if epoch:
            self.seconds["bare"].append(self.begin - begin)

    def on_test_begin(self, logs=None):
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            self.seconds["train"].append(self.trained - self.begin)
            self.seconds["with validation"].append(time.perf_counter() - self.begin)


if __name__ == "__main__":
    here()

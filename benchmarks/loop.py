"""What `clr.train` adds to the bare compiled step, with a small and a large network.

python benchmarks/loop.py [JAX]    JAX: an interpreter that has JAX, to measure on it as well
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from harness import ROOT, measured, quartiles, ratios, write

import clr
from clr.training import hardware, versions

REPEATS = 5
NETWORKS = {"small": (0.125, 32, 192), "large": (1.0, 64, 12)}  # Width, batch size, steps an epoch.
ON_GPU = 64  # Times as many steps there, where each is so much shorter.
VALIDATED = 5  # Training images to each test image, as in CIFAR-10.

Bare = Callable[[int], None]  # Makes so many steps, and waits for the last.


class Turns(keras.callbacks.Callback):
    """Times the epochs of a training run, and as many bare steps in turn with them.

    The first epoch, in which both are compiled, is not counted.
    """

    def __init__(self, bare: Bare, steps: int):
        super().__init__()
        self.bare, self.steps = bare, steps
        self.seconds: dict[str, list[float]] = {"bare": [], "training": [], "whole": []}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        begin = time.perf_counter()
        self.bare(self.steps)
        self.begun = time.perf_counter()
        self._count(epoch, "bare", self.begun - begin)

    def on_test_begin(self, logs: dict | None = None) -> None:
        int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))  # Waits for the device.
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._count(epoch, "training", self.trained - self.begun)
        self._count(epoch, "whole", time.perf_counter() - self.begun)

    def _count(self, epoch: int, name: str, seconds: float) -> None:
        if epoch:
            self.seconds[name].append(seconds)


def bare_on_tensorflow(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Bare:
    """Returns the compiled step in a loop, on one batch that is on the device already."""
    import tensorflow as tf

    step = tf.function(model.train_step, jit_compile=model.jit_compile)
    batch = (tf.constant(x), tf.constant(y))

    def run(steps: int) -> None:
        for _ in range(steps):
            logs = step(batch)
        float(logs["loss"])

    return run


def bare_on_jax(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Bare:
    """As `bare_on_tensorflow`."""
    import jax

    model._symbolic_build(data_batch=(x, y))
    model.optimizer.build(model.trainable_variables)
    step = jax.jit(model.train_step, donate_argnums=0)
    batch = jax.device_put((x, y))
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in groups)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            _, state = step(state, batch)
        jax.block_until_ready(state)

    return run


def here() -> None:
    """Measures on the backend of this process; prints what it found as one line of JSON."""
    found: dict[str, Any] = {"hardware": hardware(), "versions": versions()}
    bare = bare_on_jax if keras.backend.backend() == "jax" else bare_on_tensorflow
    for name, (width, batch_size, steps) in NETWORKS.items():
        steps *= ON_GPU if found["hardware"]["accelerators"] else 1
        data = noise(batch_size * steps)
        experiment = clr.Experiment(
            width=width, batch_size=batch_size, num_epochs=REPEATS + 1, step_size=1
        )
        x, y = data.x_train[:batch_size], data.y_train[:batch_size]
        turns = Turns(bare(clr.build(experiment, data), x, y), steps)
        clr.train(experiment, data, verbose=False, callbacks=[turns])
        found[name] = {"steps": steps, **turns.seconds}
    print(json.dumps(found))


def noise(examples: int) -> clr.datasets.Dataset:
    """Returns random images of CIFAR-10's shape, and a fifth as many to test on."""
    rng = np.random.default_rng(0)
    x, y = rng.random((examples, 32, 32, 3), "float32"), rng.integers(0, 10, examples)
    tested = slice(max(1, examples // VALIDATED))
    names = tuple("abcdefghij")
    return clr.datasets.from_arrays(x, y, x[tested], y[tested], name="noise", classes=names)


def main() -> None:
    """Measures on each backend, prints and writes."""
    rows = []
    for backend, python in zip(
        ("tensorflow", "jax"), (sys.executable, *sys.argv[1:]), strict=False
    ):
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        printed, _, _ = measured([python, __file__, "here"], env=environment)
        found = json.loads(printed.splitlines()[-1])
        devices = ", ".join(found["hardware"]["accelerators"]) or "no GPU"
        for network in NETWORKS:
            seconds = found[network]
            rows.append(
                {
                    "contestant": f"{network}, {backend} {found['versions'][backend]}, {devices}",
                    "ms a bare step": quartiles(
                        [1000 * s / seconds["steps"] for s in seconds["bare"]]
                    ),
                    "times the bare step": ratios(seconds["training"], seconds["bare"]),
                    "with validation": ratios(seconds["whole"], seconds["bare"]),
                }
            )
    sizes = "; ".join(f"{name}: width {w:g}, batch {b}" for name, (w, b, _) in NETWORKS.items())
    about = (
        f"epochs of `clr.train` in turn with the compiled step alone, {REPEATS} repeats; {sizes}"
    )
    write("loop", rows, about, "times the bare step")


if __name__ == "__main__":
    here() if sys.argv[1:] == ["here"] else main()

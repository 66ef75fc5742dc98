"""One process of a training that is spread over JAX devices; benchmarks/scaling.py starts it.

python benchmarks/train_jax.py '{"devices": 2, "processes": 1, "process": 0}'
"""

import json
import os
import signal
import sys
from typing import Any

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
PROCESSES, PROCESS = OPTIONS["processes"], OPTIONS["process"]
os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
# Read when JAX is imported: as many devices as asked for, all of them this processor.
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={OPTIONS['devices']}"

import jax  # noqa: E402

if PROCESSES > 1:
    # Before anything else asks JAX for its devices.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        OPTIONS["address"], PROCESSES, PROCESS, heartbeat_timeout_seconds=OPTIONS["heartbeat"]
    )

import keras  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import PartitionSpec  # noqa: E402

from clr import CyclicalLearningRate, CyclicLR, Experiment, datasets  # noqa: E402
from clr.training import Checkpoints  # noqa: E402

WHAT = Experiment.from_profile("quick", width=0.25, batch_size=128, num_epochs=4, step_size=1)
DEVICES = 2  # At most; the same for all, so that a checkpoint fits whatever goes on from it.


class Share(datasets.Batches):
    """Of every batch the rows that are this process's."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().__getitem__(index)
        return x[PROCESS::PROCESSES], y[PROCESS::PROCESSES]


class Count(keras.layers.Layer):
    """Hands its input on, and counts the rows of it that lie on each device."""

    def build(self, shape: Any) -> None:
        self.rows = self.add_weight(
            shape=(DEVICES,), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            rows = jax.shard_map(
                lambda part: jax.numpy.full((1,), len(part)),
                mesh=keras.distribution.distribution().device_mesh.backend_mesh,
                in_specs=PartitionSpec("batch"),
                out_specs=PartitionSpec("batch"),
            )(x)
            self.rows.assign(self.rows + jax.numpy.pad(rows, (0, DEVICES - len(rows))))
        return x


class NotingSGD(keras.optimizers.SGD):
    """Keeps the rate that the last update was made with, on each device."""

    def build(self, variables: list[Any]) -> None:
        super().build(variables)
        self.noted = self.add_variable((), name="noted")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.noted.assign(learning_rate)
        super().update_step(gradient, variable, learning_rate)


class Watch(keras.callbacks.Callback):
    """Collects the noted rates, and kills this process in mid-run if that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[list[float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        noted = self.model.optimizer.noted.value
        self.rates.append([float(shard.data) for shard in noted.addressable_shards])
        if len(self.rates) == OPTIONS.get("killed_after"):
            os.kill(os.getpid(), signal.SIGKILL)


def network() -> keras.Model:
    """Returns a network without randomness and without batch statistics, so that sums compare."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(64, "relu")]
    layers.append(keras.layers.Dense(10, "softmax"))
    return keras.Sequential([keras.Input((32, 32, 3)), Count(), *layers])


def main() -> None:
    """Trains, and prints what came out as one line of JSON."""
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    keras.utils.set_random_seed(WHAT.seed)
    data = datasets.digits()
    batches = Share(data.x_train, data.y_train, WHAT.batch_size, WHAT.seed)
    cycle = (*WHAT.bounds, WHAT.step_size * batches.num_batches)
    rate = 0.0 if OPTIONS.get("callback") else CyclicalLearningRate(*cycle)
    model = network()
    model.compile(NotingSGD(rate, momentum=0.9), "categorical_crossentropy")
    watch, done = Watch(), 0
    callbacks = [batches.follow(), watch]
    if OPTIONS.get("callback"):
        callbacks.append(CyclicLR(*cycle))
    if OPTIONS.get("folder"):
        checkpoints = Checkpoints(OPTIONS["folder"], WHAT)
        done = checkpoints.resume(model)
        if PROCESS == 0:  # The others hold the same.
            callbacks.append(checkpoints)
    try:
        history = model.fit(
            batches,
            epochs=WHAT.num_epochs,
            initial_epoch=done,
            shuffle=False,
            callbacks=callbacks,
            verbose=0,
        ).history
    except jax.errors.JaxRuntimeError as error:
        if PROCESSES == 1:
            raise
        print(
            f"Process {PROCESS} of {PROCESSES} stops: it lost touch with another. The same command "
            f"again goes on from the last checkpoint.\n{error}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # Else JAX waits until the lost process joins it in shutting down.
    found = {
        "loss": history["loss"],
        "rates": watch.rates,
        "rows": np.asarray(model.layers[0].rows.value).tolist(),
        "weights": np.concatenate([np.ravel(w) for w in model.trainable_weights]).tolist(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

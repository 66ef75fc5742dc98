"""Trains on one device and on two logical ones, in a process of its own; prints what came out.

The devices must be made before TensorFlow starts, so no test that shares a process with others can.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402
import numpy as np  # noqa: E402

import clr  # noqa: E402

X = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
Y = np.eye(3, dtype="float32")[X[:, :3].argmax(axis=1)]
BATCH, EPOCHS, CYCLE = 16, 4, (0.01, 0.3, 6)


NOTED = []  # Device and rate of every update. Not the optimizer's own, which would be a copy.


class NotingSGD(keras.optimizers.SGD):
    """Notes which device updates with which rate."""

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) == 2:  # Once an update, and not for the biases as well.

            def note(rate, device=variable.device):
                NOTED.append((device, float(rate)))

            tf.py_function(note, [learning_rate], [])
        super().update_step(gradient, variable, learning_rate)


class Count(keras.layers.Layer):
    """Hands its input on and counts its rows, on each replica by itself."""

    def build(self, shape):
        self.rows = tf.Variable(
            0,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    def call(self, x):
        if not tf.distribute.in_cross_replica_context():  # As it is while Keras asks for shapes.
            self.rows.assign_add(tf.shape(x)[0])
        return x


def train(strategy, rate, callbacks, dtype="float32"):
    keras.utils.set_random_seed(0)
    NOTED.clear()
    with strategy.scope():
        count = Count(dtype=dtype)
        dense = keras.layers.Dense(3, "softmax", dtype=dtype)
        model = keras.Sequential([keras.Input((8,)), count, dense])
        optimizer = NotingSGD(rate, momentum=0.9)
        if dtype == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "categorical_crossentropy", jit_compile=False)
    loss = model.fit(
        X, Y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, callbacks=callbacks, verbose=0
    ).history["loss"]
    replicas = {}
    for device, rate in NOTED:
        replicas.setdefault(device, []).append(rate)
    return {
        "loss": loss,
        "rates": list(replicas.values()),
        "rows": [int(part) for part in strategy.experimental_local_results(count.rows)],
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]).tolist(),
    }


def main():
    found = {}
    for name, strategy in {
        "one": tf.distribute.get_strategy(),
        "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }.items():
        cycle = clr.CyclicLR(*CYCLE)
        found["callback", name] = train(strategy, 1.0, [cycle])
        found["callback", name]["history"] = cycle.history["lr"]
        found["schedule", name] = train(strategy, clr.CyclicalLearningRate(*CYCLE), [])
    found["float16", "two"] = train(strategy, 1.0, [clr.CyclicLR(*CYCLE)], "mixed_float16")
    json.dump({" ".join(key): value for key, value in found.items()}, sys.stdout)


main()

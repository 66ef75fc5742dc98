"""Averages weights on one device and on two logical ones, in a process of its own; prints them.

The devices must be made before TensorFlow starts, so no test that shares a process with others can.
"""

import json
import sys

from two_devices import STRATEGIES, X, Y  # isort: skip  Before TensorFlow starts.

import keras
import numpy as np

import clr


def averaged(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(8),
                keras.layers.BatchNormalization(trainable=False),  # Replicas would see half each.
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    cycle = clr.CyclicLR(1e-3, 1e-2, 8)
    average = clr.AveragedWeights(cycle)
    model.fit(X, Y, 8, 6, shuffle=False, callbacks=[cycle, average], verbose=0)
    last = model.get_weights()
    model.layers[1].trainable = True
    average.apply(X)
    found = {
        "average": model.get_weights(),
        "replicas": [
            [local.numpy() for local in strategy.experimental_local_results(v.value)]
            for v in model.variables
        ],
        "prediction": [model.predict(X, verbose=0)],
    }
    average.restore()
    is_back = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), last, strict=True))
    agree = all((part == parts[0]).all() for parts in found.pop("replicas") for part in parts)
    flat = {
        key: np.concatenate([a.ravel() for a in value]).tolist() for key, value in found.items()
    }
    return {**flat, "numbers": average.numbers, "back": is_back, "agree": agree}


json.dump({name: averaged(strategy()) for name, strategy in STRATEGIES.items()}, sys.stdout)

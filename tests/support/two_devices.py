"""Two logical devices of one processor, and what the scripts here train on one and on both.

Imported before anything else: the devices must be made before TensorFlow starts.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import numpy as np  # noqa: E402

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
STRATEGIES = {
    "one": tf.distribute.get_strategy,
    "two": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
}

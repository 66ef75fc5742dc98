"""A small experiment, and a data set small enough to train on in a test."""

from dataclasses import replace

import numpy as np

from clr import Experiment, datasets

SMALL = Experiment(
    dataset="digits", width=0.1, max_lr=0.1, num_epochs=2, step_size=1, batch_size=32
)


def subset(train=100, test=50, classes=10):
    """The first digits of the first classes."""
    data = datasets.digits()
    chosen = np.flatnonzero(data.y_train.argmax(axis=1) < classes)[:train]
    held_out = np.flatnonzero(data.y_test.argmax(axis=1) < classes)[:test]
    return replace(
        data,
        x_train=data.x_train[chosen],
        y_train=data.y_train[chosen, :classes],
        x_test=data.x_test[held_out],
        y_test=data.y_test[held_out, :classes],
        classes=data.classes[:classes],
    )

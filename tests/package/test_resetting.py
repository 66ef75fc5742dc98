"""Rates are set and metrics reset before every batch, as Keras would, however cheaply."""

import keras
import numpy as np
import pytest

from clr import optimizers
from clr.range_test import lr_range_test, resetting

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X[:, :1] * 2 + 1


def net(metrics=(), kind=keras.Model):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = kind(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=list(metrics))
    model.fit(X, Y, verbose=0)
    return model


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)).tolist() for v in model.metrics_variables]


def test_metrics_are_reset_as_keras_resets_them_each_time():
    model = net(["mae", keras.metrics.R2Score()])
    model.reset_metrics()
    begin = values(model)
    reset = resetting.resetter(model)
    for _ in range(3):
        model.train_on_batch(X, Y)
        assert values(model) != begin
        reset(model)
        assert values(model) == begin


class Counting(keras.metrics.MeanAbsoluteError):
    """A metric whose reset does more than write to variables."""

    resets = 0

    def reset_state(self):
        super().reset_state()
        self.resets += 1


class Own(keras.Model):
    """A model that resets in its own way."""

    _resets = 0  # A public number would be put back after a range test.

    @property
    def resets(self):
        return self._resets

    def reset_metrics(self):
        super().reset_metrics()
        self._resets += 1


@pytest.mark.parametrize("kind", [keras.Model, Own])
def test_a_reset_of_your_own_is_called_for_each_batch(kind):
    metric = Counting()
    model = net([metric], kind)
    counted = model if kind is Own else metric
    before = counted.resets
    lr_range_test(model, X, Y, batch_size=16, num_steps=12, end_lr=1e-3, trials=0, verbose=0)
    assert counted.resets - before >= 12


def test_each_step_has_its_rate_also_a_step_that_begins_twice():
    model = net()
    rates = np.geomspace(1e-7, 10, optimizers.AHEAD + 3).tolist()
    set_rate = resetting.setter(model, rates)
    for step, rate in enumerate(rates):
        for _ in range(2):
            set_rate(model, step)
            assert optimizers.rate(model.optimizer) == np.float32(rate)

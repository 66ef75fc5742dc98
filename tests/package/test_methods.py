import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from small_data import subset

from clr import Experiment, OneCyclePolicy, train
from clr.training import METHODS, OPTIMIZERS

SMALL = Experiment(
    dataset="digits",
    min_lr=1e-3,
    max_lr=0.1,
    num_epochs=8,
    step_size=2,
    decay=0.01,
    power=3.0,
    width=0.05,
    batch_size=32,
    augment=False,
)
PER_EPOCH = 5
TOTAL = 8 * PER_EPOCH
FORMULAS = {
    "constant": lambda i: 0.1,
    "time": lambda i: 0.1 / (1 + 0.01 * i),
    "step": lambda i: 0.1 * 0.25 ** (i // 10),
    "linear": lambda i: 1e-3 + 0.099 * (1 - i / TOTAL),
    "polynomial": lambda i: 1e-3 + 0.099 * (1 - i / TOTAL) ** 3,
    "cosine": lambda i: 1e-3 + 0.099 * (1 + math.cos(math.pi * i / TOTAL)) / 2,
    "cosine_restarts": lambda i: 1e-3 + 0.099 * (1 + math.cos(math.pi * (i % 20) / 20)) / 2,
    "triangular": lambda i: 1e-3 + 0.099 * (1 - abs(i / 10 - 2 * (i // 20) - 1)),
    "triangular2": lambda i: 1e-3 + 0.099 * (1 - abs(i / 10 - 2 * (i // 20) - 1)) / 2 ** (i // 20),
    "exp_range": lambda i: 1e-3 + 0.099 * (1 - abs(i / 10 - 2 * (i // 20) - 1)) * 0.99994**i,
    "one_cycle": lambda i: float(OneCyclePolicy(0.1, TOTAL).rate(i)),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_rates_are_its_formulas(method):
    rates = replace(SMALL, clr_method=method).rates(PER_EPOCH)
    np.testing.assert_allclose(rates, [FORMULAS[method](i) for i in range(TOTAL)], rtol=2e-6)


class Seen(keras.optimizers.SGD):
    """Keeps the rate of every update."""

    seen: list = []  # noqa: RUF012

    def apply(self, grads, trainable_variables=None):
        Seen.seen.append(float(self.learning_rate))
        super().apply(grads, trainable_variables)


@pytest.mark.parametrize("method", METHODS)
def test_every_update_of_a_training_has_the_methods_rate(method, eager, monkeypatch):
    monkeypatch.setattr(keras.optimizers, "SGD", Seen)
    Seen.seen = []
    experiment = replace(SMALL, clr_method=method, num_epochs=4, step_size=1)
    run = train(experiment, subset(64, 10), verbose=False)
    np.testing.assert_allclose(Seen.seen, run.rates(), rtol=1e-6)
    np.testing.assert_allclose(run.history["learning_rate"], run.rates()[1::2], rtol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_the_one_that_was_named(optimizer, eager, monkeypatch):
    made = []
    build = keras.optimizers.Optimizer.build
    monkeypatch.setattr(
        keras.optimizers.Optimizer, "build", lambda o, v: made.append(o) or build(o, v)
    )
    experiment = replace(SMALL, optimizer=optimizer, num_epochs=2, step_size=1)
    train(experiment, subset(32, 10), verbose=False)
    assert type(made[0]).__name__.lower() == optimizer

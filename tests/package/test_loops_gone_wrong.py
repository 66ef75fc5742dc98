"""Loops of one's own that train with another rate than the callback sets: said, not passed over."""

import keras
import numpy as np
import pytest

from clr import CyclicLR


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


BATCH = np.ones((8, 4), "float32"), np.zeros((8, 2), "float32")


def test_a_step_that_trains_with_another_optimizer_draws_a_warning(model):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.compile(keras.optimizers.SGD(0.1), "mse")
    cycle = CyclicLR(0.01, 0.1, step_size=2)
    cycle.set_model(model)
    cycle.on_train_begin()
    for batch in range(4):
        cycle.on_train_batch_begin(batch)
        other.train_on_batch(*BATCH)
    with pytest.warns(UserWarning, match="made no update in an epoch of 4 batches"):
        cycle.on_epoch_end(0)


def test_a_step_that_puts_an_old_rate_back_is_an_error(model):
    cycle = CyclicLR(0.01, 0.1, step_size=2)
    cycle.set_model(model)
    cycle.on_train_begin()
    cycle.on_train_batch_begin(0)
    model.train_on_batch(*BATCH)
    cycle.on_train_batch_begin(1)
    model.train_on_batch(*BATCH)
    model.optimizer.learning_rate = 0.01  # As a state that the loop kept from before.
    with pytest.raises(ValueError, match=r"something else.*Received: learning_rate=0\.01"):
        cycle.on_train_batch_begin(2)


@pytest.mark.parametrize("call", ["on_epoch_end", "on_train_end"])
def test_a_callback_without_a_model_says_so(call):
    arguments = (0,) if call == "on_epoch_end" else ()
    with pytest.raises(RuntimeError, match="no model yet"):
        getattr(CyclicLR(), call)(*arguments)


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match="needs a compiled model"):
        CyclicLR().set_model(keras.Sequential([keras.layers.Dense(1)]))

"""What is asked of an optimizer has one answer, wrapped or not, accumulating or not."""

import keras
import numpy as np
import pytest

from clr import optimizers, rates

X = np.ones((8, 2), "float32")


def trained(optimizer, batches=6):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    model.fit(X[:batches], X[:batches, :1], batch_size=1, verbose=0)
    return model


def test_a_wrapped_optimizer_is_found_and_a_plain_one_is_itself():
    inside = keras.optimizers.SGD(0.1)
    assert optimizers.inner(keras.optimizers.LossScaleOptimizer(inside)) is inside
    assert optimizers.inner(inside) is inside


@pytest.mark.parametrize("wrapped", [False, True])
def test_updates_and_batches_are_counted(wrapped):
    sgd = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd) if wrapped else sgd
    optimizer = trained(optimizer).optimizer
    assert optimizers.batches_an_update(optimizer) == 4
    assert optimizers.batches(optimizer) == 6
    assert optimizers.updates(optimizer) == 1


def test_one_that_does_not_accumulate_updates_with_every_batch():
    optimizer = trained(keras.optimizers.Adam(0.1)).optimizer
    assert optimizers.batches_an_update(optimizer) == 1
    assert optimizers.updates(optimizer) == optimizers.batches(optimizer) == 6


@pytest.mark.parametrize("value", [0.25, "a tensor"])
def test_a_rate_that_is_set_is_the_rate_in_force_and_trains(value):
    model = trained(keras.optimizers.SGD(0.1))
    if value == "a tensor":
        value = keras.ops.convert_to_tensor(0.25, "float32")
    rate = rates.of(model, "`x` needs one", "Do that.")
    rate.set(model, value)
    assert rate.read(model) == optimizers.rate(model.optimizer) == 0.25
    rate.set(model, 0.0)
    before = model.get_weights()
    model.fit(X, X[:, :1], verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize(
    "optimizer", [None, keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))]
)
def test_a_rate_that_can_not_be_set_is_refused_with_the_remedy(optimizer):
    with pytest.raises(ValueError, match=r"^`x` needs one with a fixed .* Received: .* Do that\.$"):
        optimizers.require_fixed_rate(optimizer, "`x` needs one", "Do that.")
    optimizers.require_fixed_rate(keras.optimizers.SGD(0.1), "`x` needs one", "Do that.")

"""From a range test to a callback that spans `fit`: no arithmetic in between."""

import keras
import numpy as np
import pytest

from clr import CyclicLR, OneCycleLR, lr_range_test
from clr.range_test import RangeTest

LRS = np.geomspace(1e-6, 10, 141)
FALLING = 2.3 - 1.5 / (1 + np.exp(-4 * (np.log10(LRS) + 3)))
RISING_AT_LAST = FALLING + np.maximum(0, np.log10(LRS) + 1) ** 3


def found(losses=RISING_AT_LAST):
    config = {"beta": 0.0, "validation_every": None, "schedule": "exponential", "num_steps": 141}
    return RangeTest(LRS.tolist(), list(losses), None, "end_lr reached", True, config)


def test_a_range_test_and_one_line_of_training():
    x = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    result = lr_range_test(model, x, y, batch_size=64, num_steps=60, start_lr=1e-5, verbose=0)
    before = model.evaluate(x, y, verbose=0)
    for cycle in (result.one_cycle(), result.cyclic_lr()):
        model.fit(x, y, batch_size=64, epochs=20, callbacks=[cycle], verbose=0)
        assert cycle.history["lr"] == cycle.policy.rate(np.arange(100)).tolist()
        assert cycle.policy.max_lr == result.suggest().max_lr
    assert model.evaluate(x, y, verbose=0) < before / 10


@pytest.mark.parametrize("method", [None, "minimum", "steepest"])
def test_the_bounds_are_the_suggested_ones(method):
    given = {} if method is None else {"method": method}
    base_lr, max_lr = found().suggest(**given)
    one, cyclic = found().one_cycle(**given), found().cyclic_lr(**given)
    assert isinstance(one, OneCycleLR) and isinstance(cyclic, CyclicLR)
    assert one._spanning(9).max_lr == max_lr
    policy = cyclic._spanning(9)
    assert (policy.base_lr, policy.max_lr, policy.cycles) == (base_lr, max_lr, 2)


def test_arguments_of_the_callback_come_before_what_is_suggested():
    result, (base_lr, max_lr) = found(), found().suggest()
    policy = result.one_cycle(max_lr=0.7, total_steps=50, div_factor=5.0).policy
    assert (policy.max_lr, policy.total_steps, policy.div_factor) == (0.7, 50, 5.0)
    assert result.cyclic_lr(5)._spanning(50).cycles == 5
    policy = result.cyclic_lr(step_size=30, max_lr=7.0, mode="triangular2").policy
    assert (policy.base_lr, policy.max_lr, policy.step_size) == (base_lr, 7.0, 30)
    assert result.cyclic_lr(base_lr=0.0, step_size=30).policy.max_lr == max_lr
    assert result.cyclic_lr(step_size=None)._spanning(50).cycles == 2
    with pytest.raises(ValueError, match=r"`max_lr` must be at least `base_lr`"):
        result.cyclic_lr(max_lr=base_lr / 2)
    with pytest.raises(ValueError, match=r"`cycles`.*cycles=0"):
        result.cyclic_lr(cycles=0)


def test_a_warning_points_at_the_line_of_the_caller():
    result = found(FALLING)  # It ends before a rise.
    for ask in (
        lambda: result.suggest("edge"),
        lambda: result.one_cycle(method="edge"),
        lambda: result.cyclic_lr(method="edge"),
    ):
        with pytest.warns(UserWarning) as caught:
            ask()
        assert [w.filename for w in caught] == [__file__]


def test_a_curve_without_an_answer_is_read_only_where_it_is_needed():
    flat = found([2.3] * 141)
    for ask in (flat.one_cycle, flat.cyclic_lr, lambda: flat.cyclic_lr(max_lr=1.0)):
        with pytest.raises(ValueError, match="never falls"):
            ask()
    assert flat.one_cycle(max_lr=0.1, total_steps=10).policy.max_lr == 0.1
    assert flat.cyclic_lr(base_lr=0.1, max_lr=0.2)._spanning(10).base_lr == 0.1
    with pytest.raises(ValueError, match=r"`method` must be one of.*'deepest'"):
        found().one_cycle(method="deepest")


def test_one_cycle_leaves_the_momentum_as_it_was_in_the_trials_unless_told_otherwise():
    assert found().one_cycle().cycle_momentum is False
    assert found().one_cycle(cycle_momentum=True).cycle_momentum is True

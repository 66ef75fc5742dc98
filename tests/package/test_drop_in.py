"""What scripts for the reference callback read, set and call."""

import keras
import numpy as np
import pytest
from reference import reference_rate

from clr import CyclicLR, CyclicPolicy, OneCycleLR, OneCyclePolicy

STEPS = 8
X = np.random.default_rng(0).normal(size=(8 * STEPS, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
CYCLE = {"base_lr": 1e-3, "max_lr": 6e-3, "step_size": 4}
pytestmark = pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")


def compiled():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


def fit(model, *callbacks, epochs=1):
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks))


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_the_references_attributes_read_right_at_any_time(mode):
    settings = {**CYCLE, "step_size": 4.0, "mode": mode, "gamma": 0.99}
    cycle, model = CyclicLR(**settings), compiled()
    assert {name: getattr(cycle, name) for name in settings} == settings
    assert (cycle.clr_iterations, cycle.trn_iterations) == (0, 0)
    assert cycle.clr() == CYCLE["base_lr"]
    assert cycle.scale_mode == ("iterations" if mode == "exp_range" else "cycle")
    scale = {"triangular": 1, "triangular2": 0.25, "exp_range": 0.99**3}[mode]
    assert cycle.scale_fn(3) == pytest.approx(scale, rel=1e-12)
    fit(model, cycle)
    assert (cycle.clr_iterations, cycle.trn_iterations) == (STEPS, STEPS)
    assert cycle.clr() == pytest.approx(reference_rate(STEPS, **settings), rel=1e-12)
    cycle._reset()
    fit(model, cycle)
    assert (cycle.clr_iterations, cycle.trn_iterations) == (STEPS, 2 * STEPS)


@pytest.mark.parametrize(
    "name, value",
    [
        ("base_lr", 0.0),
        ("max_lr", 0.02),
        ("step_size", 3),
        ("mode", "triangular2"),
        ("scale_fn", lambda x: 1 / x),
    ],
)
def test_a_bound_that_is_set_between_two_fits_holds_and_the_cycle_goes_on(name, value):
    cycle, model = CyclicLR(**CYCLE), compiled()
    fit(model, cycle)
    setattr(cycle, name, value)
    fit(model, cycle)
    policy = CyclicPolicy(**{**CYCLE, name: value})
    assert cycle.policy == policy
    assert cycle.history["lr"][STEPS:] == policy.rate(np.arange(STEPS, 2 * STEPS)).tolist()


def test_a_bound_that_is_set_amid_training_holds_from_the_next_batch():
    class Lower(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                cycle.max_lr = 2e-3

    cycle, model = CyclicLR(**CYCLE), compiled()
    fit(model, cycle, Lower())
    before = CyclicPolicy(**CYCLE).rate(np.arange(5))
    after = CyclicPolicy(**{**CYCLE, "max_lr": 2e-3}).rate(np.arange(5, STEPS))
    assert cycle.history["lr"] == [*before, *after]


def test_a_place_in_the_cycle_can_be_set_before_and_after_a_fit():
    cycle, model = CyclicLR(**CYCLE), compiled()
    fit(model)
    cycle.clr_iterations = 3
    assert cycle.clr_iterations == 3
    fit(model, cycle)
    rates = CyclicPolicy(**CYCLE).rate(np.arange(40))
    assert cycle.history["lr"] == rates[3 : 3 + STEPS].tolist()
    cycle.clr_iterations = 0
    fit(model, cycle)
    assert cycle.history["lr"][STEPS:] == rates[:STEPS].tolist()


def test_a_history_that_is_emptied_begins_anew_and_its_numbers_go_on():
    cycle, model = CyclicLR(**CYCLE, cycle_momentum=True), compiled()
    fit(model, cycle)
    cycle.history = {}
    fit(model, cycle)
    assert {name: len(values) for name, values in cycle.history.items()} == {
        "lr": STEPS,
        "iterations": STEPS,
        "momentum": STEPS,
    }
    assert cycle.history["iterations"][0] == STEPS + 1 and cycle.trn_iterations == 2 * STEPS


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("max_lr", 1e-4, ValueError),
        ("mode", "circle", ValueError),
        ("step_size", 0, ValueError),
        ("clr_iterations", -1, ValueError),
        ("trn_iterations", 5, AttributeError),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_changes_nothing(name, value, error):
    cycle = CyclicLR(**CYCLE)
    with pytest.raises(error, match=name):
        setattr(cycle, name, value)
    assert cycle.policy == CyclicPolicy(**CYCLE)


def test_lengths_that_span_fit_are_known_when_it_has_begun():
    cycle, one, model = CyclicLR(cycles=2), OneCycleLR(0.1), compiled()
    assert cycle.step_size is None and one.total_steps is None
    with pytest.raises(RuntimeError, match=r"`clr`.*cycles=2.*policy=None"):
        cycle.clr()
    fit(model, cycle)
    fit(model, one)
    assert (cycle.step_size, one.total_steps) == (2, STEPS)
    one.max_lr = 0.2
    assert one.policy == OneCyclePolicy(0.2, STEPS)
    one.total_steps = 2 * STEPS  # From now on it spans no `fit`.
    fit(model, one)
    assert one.policy == OneCyclePolicy(0.2, 2 * STEPS)


@pytest.mark.parametrize("make", [CyclicLR, lambda **k: OneCycleLR(0.1, **k)])
@pytest.mark.parametrize("name", ["base_momentum", "max_momentum"])
def test_bounds_of_a_momentum_that_does_not_cycle_are_refused(make, name):
    bounds = {"base_momentum": 0.1, "max_momentum": 0.99}
    with pytest.raises(ValueError, match=rf"`{name}` has no effect.*{name}={bounds[name]}"):
        make(**{name: bounds[name]})

import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from torch_one_cycle import STORED, random_settings, torch_one_cycle

from clr import OneCycleLearningRate, OneCycleLR, OneCyclePolicy

X = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
STEPS = 10  # Batches of 32 in an epoch of X.
CYCLE = {"max_lr": 5e-2, "total_steps": 2 * STEPS}


def compiled(optimizer=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(0.5, momentum=0.9), "mse")
    return model


def fit(model, *callbacks, epochs=2):
    model.fit(X, Y, 32, epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def test_rates_and_momenta_equal_torchs_stored_ones():
    with np.load(STORED, allow_pickle=False) as stored:
        rates, momenta = stored["arr_0"]
    for (setting, iterations), rate, momentum in zip(
        random_settings(), rates, momenta, strict=True
    ):
        policy = OneCyclePolicy(**setting)
        difference = np.abs(policy.rate(iterations) - rate).max()
        assert difference <= 1e-12 * setting["max_lr"], setting
        assert np.abs(policy.momentum(iterations) - momentum).max() <= 1e-12, setting


def test_the_stored_rates_and_momenta_are_torchs():
    pytest.importorskip("torch", reason="pip install torch to hold the stored rates against it")
    with warnings.catch_warnings(), np.load(STORED, allow_pickle=False) as stored:
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(torch_one_cycle(), stored["arr_0"], rtol=1e-15)


def test_the_schedule_equals_the_policy_within_float32_rounding():
    for setting, iterations in random_settings():
        schedule, policy = OneCycleLearningRate(**setting), OneCyclePolicy(**setting)
        for i in iterations[:5].tolist():
            assert abs(float(schedule(i)) - policy.rate(i)) <= 1e-6 * setting["max_lr"], setting


@pytest.mark.parametrize("three_phase", [False, True])
def test_the_rate_rises_once_falls_and_ends_annihilated(three_phase):
    policy = OneCyclePolicy(0.1, 1000, anneal_strategy="linear", three_phase=three_phase)
    rates, momenta = policy.rate(np.arange(1000)), policy.momentum(np.arange(1000))
    turn = rates.argmax()
    assert turn == 299 and rates[turn] == 0.1 and momenta[turn] == 0.85
    assert rates[0] == 0.1 / 25 and rates[-1] == pytest.approx(0.1 / 25 / 1e4)
    assert (np.diff(rates[: turn + 1]) > 0).all() and (np.diff(rates[turn:]) < 0).all()
    assert momenta[0] == momenta[-1] == 0.95
    assert policy.rate(10**9) == rates[-1] and policy.momentum(10**9) == momenta[-1]


def test_the_callback_trains_each_batch_with_the_policys_rate():
    model, cycle = compiled(), OneCycleLR(**CYCLE, cycle_momentum=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, cycle)
    steps = np.arange(2 * STEPS)
    assert cycle.history["lr"] == cycle.policy.rate(steps).tolist()
    assert cycle.history["momentum"] == cycle.policy.momentum(steps).tolist()


def test_callback_and_schedule_train_to_the_same_weights():
    by_callback, by_schedule = (
        compiled(),
        compiled(keras.optimizers.SGD(OneCycleLearningRate(**CYCLE), momentum=0.9)),
    )
    fit(by_callback, OneCycleLR(**CYCLE))
    fit(by_schedule)
    for one, other in zip(by_callback.get_weights(), by_schedule.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(("epochs", "said"), [(1, "before its end"), (3, "stays at its last")])
def test_a_training_of_another_length_is_warned_of(epochs, said):
    with pytest.warns(UserWarning, match=f"{said}.*total_steps={epochs * STEPS}"):
        fit(compiled(), OneCycleLR(**CYCLE), epochs=epochs)


def test_a_reset_starts_the_cycle_anew_momentum_included():
    model, cycle = compiled(), OneCycleLR(**CYCLE, cycle_momentum=True)
    fit(model, cycle)
    cycle.reset()
    fit(model, cycle)
    for name in ("lr", "momentum"):
        assert cycle.history[name][: 2 * STEPS] == cycle.history[name][2 * STEPS :]


def test_a_saved_schedule_is_the_same_in_a_new_process(tmp_path):
    schedule = OneCycleLearningRate(0.1, 100, three_phase=True, anneal_strategy="linear")
    model = compiled(keras.optimizers.SGD(schedule))
    fit(model)
    model.save(tmp_path / "model.keras")
    script = (
        "import clr, json, keras\n"
        f"optimizer = keras.models.load_model({str(tmp_path / 'model.keras')!r}).optimizer\n"
        "print(json.dumps([int(optimizer.iterations), optimizer._learning_rate.get_config()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [20, schedule.get_config()]


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"max_lr": 0.0}, ValueError),
        ({"max_lr": float("nan")}, ValueError),
        ({"max_lr": "0.1"}, TypeError),
        ({"total_steps": 1}, ValueError),
        ({"total_steps": 99.5}, ValueError),
        ({"pct_start": 0.0}, ValueError),
        ({"pct_start": 1.0}, ValueError),
        ({"pct_start": 0.009}, ValueError),
        ({"anneal_strategy": "cosine"}, ValueError),
        ({"div_factor": 0.5}, ValueError),
        ({"final_div_factor": float("inf")}, ValueError),
        ({"three_phase": 1}, TypeError),
        ({"base_momentum": 1.0}, ValueError),
        ({"max_momentum": 0.5}, ValueError),
    ],
)
def test_a_bad_argument_is_refused_by_name_and_value(argument, error):
    (name, value), *_ = argument.items()
    for make in (OneCyclePolicy, OneCycleLR, OneCycleLearningRate):
        with pytest.raises(error, match=f"`{name}`.*{name}={value!r}"):
            make(**{"max_lr": 0.1, "total_steps": 100, **argument})


def test_three_phases_leave_the_last_one_room():
    with pytest.raises(ValueError, match=r"`pct_start`.*pct_start=0\.6"):
        OneCyclePolicy(0.1, 100, pct_start=0.6, three_phase=True)

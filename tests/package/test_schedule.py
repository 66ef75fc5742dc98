import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from markers import needs_steps_per_execution
from reference import random_settings

from clr import CyclicalLearningRate, CyclicPolicy
from clr.policies import MODES

X = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
ROUNDING = 4 * np.finfo("float32").eps  # A handful of float32 operations.


@keras.saving.register_keras_serializable(package="tests")
def sinking(cycle):
    return 1 / ops.sqrt(cycle)


@pytest.mark.parametrize("mode", MODES)
def test_the_schedule_equals_the_policy_within_float32_rounding(mode):
    for setting, iterations in random_settings(mode, 40, uneven=True):
        schedule, policy = CyclicalLearningRate(**setting), CyclicPolicy(**setting)
        for i in [*iterations.tolist()[:3], 10**9]:
            assert abs(float(schedule(i)) - policy.rate(i)) <= ROUNDING * setting["max_lr"], setting


@pytest.mark.parametrize(
    "steps_per_execution", [1, pytest.param(3, marks=needs_steps_per_execution)]
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_every_update_in_the_compiled_step_gets_its_own_rate(steps_per_execution, jit_compile):
    def trained(rate, **options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate), "mse", **options)
        model.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    cycle = CyclicPolicy(1e-3, 5e-2, 7)
    got = trained(
        CyclicalLearningRate(1e-3, 5e-2, 7),
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    w, b = (value.astype("float64") for value in model.get_weights())
    for i in range(20):
        at = slice(i % 10 * 32, i % 10 * 32 + 32)
        error = X[at] @ w + b - Y[at]
        w -= cycle.rate(i) * 2 * X[at].T @ error / 32
        b -= cycle.rate(i) * 2 * error.mean(axis=0)
    np.testing.assert_allclose(got[0], w, rtol=1e-4)


def test_a_saved_model_goes_on_in_a_new_process_with_its_custom_scale(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    schedule = CyclicalLearningRate(1e-3, 5e-2, 7, scale_fn=sinking, step_size_down=9)
    model.compile(keras.optimizers.SGD(schedule), "mse")
    model.fit(X, Y, batch_size=32, verbose=0)
    model.save(tmp_path / "model.keras")
    script = f"""
import keras, clr
from keras import ops

@keras.saving.register_keras_serializable(package="tests")
def sinking(cycle):
    return 1 / ops.sqrt(cycle)

optimizer = keras.models.load_model({str(tmp_path / "model.keras")!r}).optimizer
print("rate", int(optimizer.iterations), float(optimizer.learning_rate))
print("late", float(optimizer._learning_rate(20)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["rate"].split() == ["10", repr(float(schedule(10)))]
    assert float(lines["late"]) == float(schedule(20))


def test_clone_and_config_keep_every_argument():
    schedule = CyclicalLearningRate(
        1e-3, 5e-2, 7, "exp_range", 0.99, sinking, "iterations", step_size_down=9
    )
    again = CyclicalLearningRate.from_config(schedule.get_config())
    assert again.policy == schedule.policy


def branches(x):
    return 1.0 if x < 3 else 0.5


@pytest.mark.parametrize("scale_fn", [np.sin, branches, lambda x: np.exp(-x)])
def test_a_scale_that_fails_on_a_tensor_is_refused_and_shown_how(scale_fn):
    with pytest.raises(ValueError, match=r"`scale_fn` must work on a tensor(.|\n)*keras\.ops\.exp"):
        CyclicalLearningRate(scale_fn=scale_fn)


def test_a_scale_that_could_not_be_saved_is_refused_and_shown_how():
    with pytest.raises(ValueError, match=r"`scale_fn` must be registered(.|\n)*register_keras"):
        CyclicalLearningRate(scale_fn=lambda x: 1 / x)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"`gamma`.*1\.5"):
        CyclicalLearningRate(gamma=1.5)

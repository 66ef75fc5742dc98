import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from markers import BACKEND, needs_steps_per_execution, needs_tensorflow

from clr import CyclicLR, CyclicPolicy, OneCycleLearningRate, OneCycleLR, cycle_momentum

X = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
WEIGHTS = np.array([[0.5], [1.5], [0.9], [-0.5]])
POLICY = CyclicPolicy(1e-3, 2e-2, 10, base_momentum=0.3, max_momentum=0.9)
CYCLE = {"base_lr": 1e-3, "max_lr": 2e-2, "step_size": 10}
MOMENTA = {"cycle_momentum": True, "base_momentum": 0.3, "max_momentum": 0.9}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.5, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.5, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.5, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.5),
    "adamw": lambda: keras.optimizers.AdamW(0.5),
    "adamax": lambda: keras.optimizers.Adamax(0.5),
    "nadam": lambda: keras.optimizers.Nadam(0.5),
    "lion": lambda: keras.optimizers.Lion(0.5),
    "lamb": lambda: keras.optimizers.Lamb(0.5),
    "muon": lambda: keras.optimizers.Muon(0.5),
    "peculiar": lambda: Peculiar(0.5),
}
MOMENTA_OF = {  # Where it is not `beta_1`.
    **dict.fromkeys(("sgd", "nesterov", "rmsprop", "peculiar"), ("momentum",)),
    "muon": ("momentum", "adam_beta_1"),
}


class Peculiar(keras.optimizers.Optimizer):
    """Does with its momentum whatever Python does with numbers."""

    momentum = 0.9

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.averages = self.add_optimizer_variables(variables, "average")

    def update_step(self, gradient, variable, learning_rate):
        m = self.momentum
        assert m and m > 0 and m >= 0.1 and m != 0 and not (m == 0 or m < 0 or m <= 0)
        assert f"{m}" and f"{m:.1f}"
        average = self.averages[self._get_variable_index(variable)]
        mixed = m * ops.convert_to_tensor(average) + (1 - m) * gradient
        self.assign(average, mixed)
        power = m ** ops.cast(self.iterations + 1, variable.dtype)
        weight = (1 / (1 - power) + (m + 1) / 2 + (1 + m) / 2) * (1.5 - (-m) - m - (m - 0.5) / m)
        step = learning_rate * weight * (ops.cast(m, variable.dtype) * mixed) + 0.0 * 2.0**m
        self.assign_sub(variable, step * ops.power(m, 2))


def compiled(optimizer, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.set_weights([WEIGHTS, np.zeros(1)])  # Each backend would draw others.
    model.compile(optimizer, "mse", **options)
    return model


def fit(model, *callbacks, epochs=2):
    model.fit(X, Y, 32, epochs, verbose=0, shuffle=False, callbacks=list(callbacks))
    return model.get_weights()


class SetByHand(keras.callbacks.Callback):
    """Sets rate and momentum as attributes, which acts where nothing is compiled."""

    def __init__(self, names):
        super().__init__()
        self.names, self.step = names, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = POLICY.rate(self.step)
        for name in self.names:
            setattr(self.model.optimizer, name, float(POLICY.momentum(self.step)))
        self.step += 1


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_compiled_step_uses_the_momentum_that_the_policy_says(name, jit_compile):
    names = MOMENTA_OF.get(name, ("beta_1",))
    by_hand = fit(compiled(OPTIMIZERS[name](), run_eagerly=True), SetByHand(names))
    cycled = fit(
        compiled(OPTIMIZERS[name](), jit_compile=jit_compile), CyclicLR(**CYCLE, **MOMENTA)
    )
    constant = fit(compiled(OPTIMIZERS[name]()), CyclicLR(**CYCLE))
    for expected, got in zip(by_hand, cycled, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5)
    assert np.abs(constant[0] - by_hand[0]).max() > 1e-3  # So that agreement means something.


@needs_steps_per_execution
def test_a_schedule_with_cycled_momentum_is_exact_under_steps_per_execution():
    schedule = OneCycleLearningRate(0.05, 20, base_momentum=0.3, max_momentum=0.9)
    weights = []
    for steps in (1, 5):
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
        cycle_momentum(optimizer, schedule.policy)
        weights.append(fit(compiled(optimizer, steps_per_execution=steps)))
    callback = OneCycleLR(0.05, 20, cycle_momentum=True, base_momentum=0.3, max_momentum=0.9)
    weights.append(fit(compiled(keras.optimizers.SGD(0.5, momentum=0.9)), callback))
    for exact, in_fives, by_callback in zip(*weights, strict=True):
        np.testing.assert_allclose(in_fives, exact, rtol=1e-5)
        np.testing.assert_allclose(by_callback, exact, rtol=1e-5)


def test_the_optimizer_is_saved_with_the_number_it_had_and_keeps_it_afterwards(tmp_path):
    model = compiled(keras.optimizers.SGD(0.5, momentum=0.75))
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    fit(model, CyclicLR(**CYCLE, **MOMENTA), checkpoint)
    assert model.optimizer.momentum == 0.75
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert loaded.momentum == 0.75 and int(loaded.iterations) == 20


def test_the_momentum_is_constant_again_after_the_training(tmp_path):
    cycled = compiled(keras.optimizers.SGD(0.01, momentum=0.9))
    fit(cycled, CyclicLR(**CYCLE, **MOMENTA))
    cycled.save(tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras")  # Nothing of the cycling in it.
    for one, other in zip(fit(plain), fit(cycled), strict=True):
        np.testing.assert_array_equal(one, other)


def test_under_gradient_accumulation_the_momentum_belongs_to_the_update():
    def optimizer():
        return keras.optimizers.SGD(0.5, momentum=0.9, gradient_accumulation_steps=2)

    expected = [POLICY.momentum(i // 2) for i in range(20)]
    cycle = CyclicLR(**CYCLE, **MOMENTA)
    with pytest.warns(UserWarning, match="mid-cycle, 10 iterations into a cycle of 20"):
        cycled = fit(compiled(optimizer()), cycle)
    assert cycle.history["momentum"] == expected

    class ByHand(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            i = int(self.model.optimizer.iterations)
            self.model.optimizer.learning_rate = POLICY.rate(i)
            self.model.optimizer.momentum = float(POLICY.momentum(i))

    by_hand = fit(compiled(optimizer(), run_eagerly=True), ByHand())
    for one, other in zip(by_hand, cycled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


WITHOUT = {
    "Adagrad": {}, "Adadelta": {}, "Adafactor": {}, "Ftrl": {}, "ScheduleFreeAdamW": {},
    "SGD": {"momentum": 0.0}, "RMSprop": {"momentum": 0.0}, "Adam": {"beta_1": 0.0},
    "Muon": {"adam_beta_1": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("name", WITHOUT)
def test_an_optimizer_without_a_momentum_to_cycle_is_refused_with_the_remedy(name, is_wrapped):
    def optimizer():
        made = getattr(keras.optimizers, name)(0.1, **WITHOUT[name])
        return keras.optimizers.LossScaleOptimizer(made) if is_wrapped else made

    with pytest.raises(ValueError, match=r"`optimizer` must have a momentum.*optimizer=") as caught:
        fit(compiled(optimizer()), OneCycleLR(0.1, 20, cycle_momentum=True))
    assert "cycle_momentum=False" in str(caught.value)
    for attribute in WITHOUT[name]:
        assert f"compile with {name}({attribute}=0.9)" in str(caught.value)
    fit(compiled(optimizer()), OneCycleLR(0.1, 20))


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs step by step, with numbers")
def test_an_optimizer_that_makes_its_momentum_a_plain_number_says_so():
    class Plain(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, float(self.momentum) * gradient)

    with pytest.raises(TypeError, match="cycle_momentum=False"):
        fit(compiled(Plain(0.1, momentum=0.9)), OneCycleLR(0.1, 20, cycle_momentum=True))


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs step by step, with numbers")
def test_a_scale_fn_that_needs_a_number_is_refused():
    cycle = CyclicLR(**CYCLE, **MOMENTA, scale_fn=lambda number: 1.0 if number < 2 else 0.5)
    with pytest.raises(ValueError, match=r"`scale_fn` must work on a tensor.*scale_fn=<function"):
        fit(compiled(keras.optimizers.SGD(0.1, momentum=0.9)), cycle)


def test_a_failure_in_the_step_leaves_the_number_that_was_there():
    class Failing(keras.optimizers.SGD):
        def _clip_gradients(self, gradients):
            raise RuntimeError(f"with the momentum {self.momentum}")

    model = compiled(Failing(0.1, momentum=0.75))
    with pytest.raises(RuntimeError, match="with the momentum"):
        fit(model, CyclicLR(**CYCLE, **MOMENTA))
    assert model.optimizer.momentum == 0.75


def test_a_policy_that_another_has_replaced_releases_nothing():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    first, second = cycle_momentum(optimizer, POLICY), cycle_momentum(optimizer, POLICY)
    first()
    assert "apply" in vars(optimizer)
    second(), second()
    assert "apply" not in vars(optimizer)


def mirrored(*mode):
    """What the momentum did on one device and on two, in a process that makes the devices."""
    script = Path(__file__).parents[1] / "support" / "mirrored_momentum.py"
    done = subprocess.run(
        [sys.executable, str(script), *mode], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_tensorflow
def test_on_every_replica_the_momentum_is_the_policys_and_nothing_of_it_is_left():
    found = mirrored()
    for name in ("sgd", "adam", "lion", "scaled"):
        for after in ("", " then"):  # The cycle, and a plain fit behind it.
            alone, together = found[f"{name} one{after}"], found[f"{name} two{after}"]
            np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert np.abs(np.subtract(found["sgd two"], found["constant two"])).max() > 0.1
    assert found["momenta"] == [0.9, 0.9, 0.9]  # After `fit`, in its checkpoint, after a failure.
    np.testing.assert_allclose(found["sgd after a failure"], found["sgd one"], rtol=1e-4)


@needs_tensorflow
def test_replicas_that_run_at_the_same_time_share_the_momentum():
    found = mirrored("eager")
    np.testing.assert_allclose(found["eager two"], found["eager one"], rtol=1e-4)


def test_cycle_momentum_must_be_a_bool():
    with pytest.raises(TypeError, match=r"`cycle_momentum`.*cycle_momentum='yes'"):
        CyclicLR(cycle_momentum="yes")


@pytest.mark.parametrize("name", ["base_momentum", "max_momentum"])
def test_a_bad_momentum_is_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}`.*1\.5"):
        CyclicLR(**{name: 1.5})

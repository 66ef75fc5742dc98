import keras
import numpy as np
import pytest
from markers import needs_steps_per_execution

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
}


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

    def __init__(self, name):
        super().__init__()
        self.name, self.step = name, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = POLICY.rate(self.step)
        setattr(self.model.optimizer, self.name, float(POLICY.momentum(self.step)))
        self.step += 1


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_compiled_step_uses_the_momentum_that_the_policy_says(name, jit_compile):
    attribute = "momentum" if name in ("sgd", "nesterov", "rmsprop") else "beta_1"
    by_hand = fit(compiled(OPTIMIZERS[name](), run_eagerly=True), SetByHand(attribute))
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
    callback = OneCycleLR(0.05, 20, base_momentum=0.3, max_momentum=0.9)
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


@pytest.mark.parametrize(
    "optimizer", [lambda: keras.optimizers.SGD(0.1), lambda: keras.optimizers.Adagrad(0.1)]
)
def test_an_optimizer_without_momentum_is_refused(optimizer):
    with pytest.raises(ValueError, match=r"`optimizer` must have a momentum.*optimizer="):
        fit(compiled(optimizer()), OneCycleLR(0.1, 20))
    fit(compiled(optimizer()), OneCycleLR(0.1, 20, cycle_momentum=False))


def test_cycle_momentum_must_be_a_bool():
    with pytest.raises(TypeError, match=r"`cycle_momentum`.*cycle_momentum='yes'"):
        CyclicLR(cycle_momentum="yes")


@pytest.mark.parametrize("name", ["base_momentum", "max_momentum"])
def test_a_bad_momentum_is_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}`.*1\.5"):
        CyclicLR(**{name: 1.5})

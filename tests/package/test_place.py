"""Where a cycle begins: with a new callback, and where it goes on."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest

from clr import CyclicLR, CyclicPolicy, OneCycleLR, OneCyclePolicy

STEPS = 8
X = np.random.default_rng(0).normal(size=(8 * STEPS, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
CYCLE = {"base_lr": 1e-3, "max_lr": 5e-2, "step_size": 2 * STEPS}
RATES = CyclicPolicy(**CYCLE).rate(np.arange(200)).tolist()
ONE = OneCyclePolicy(0.1, 4 * STEPS).rate(np.arange(4 * STEPS)).tolist()
pytestmark = pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")


def compiled(optimizer=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


def fit(model, *callbacks, epochs=1, **options):
    given = {"batch_size": 8, "verbose": 0, "shuffle": False, **options}
    model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **given)


def one_cycle(**options):
    return OneCycleLR(0.1, 4 * STEPS, cycle_momentum=True, **options)


def test_a_new_callback_on_a_trained_model_begins_a_new_cycle():
    model = compiled()
    fit(model, epochs=5)
    for make, rates in ((lambda: CyclicLR(**CYCLE), RATES), (one_cycle, ONE)):
        for _ in range(2):
            cycle = make()
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                fit(model, cycle, epochs=4)
            assert cycle.history["lr"] == rates[: 4 * STEPS]


def test_its_momentum_begins_anew_as_well():
    model, cycle = compiled(), one_cycle()
    fit(model, epochs=5)
    fit(model, cycle, epochs=4)
    expected = OneCyclePolicy(0.1, 4 * STEPS).momentum(np.arange(4 * STEPS))
    assert cycle.history["momentum"] == expected.tolist()


def test_the_same_callback_goes_on_where_it_stopped_whoever_trained_meanwhile():
    model, cycle = compiled(), CyclicLR(**CYCLE)
    fit(model, cycle)
    fit(model, epochs=3)
    fit(model, cycle)
    assert cycle.history["lr"] == RATES[: 2 * STEPS]


def test_another_model_gets_a_cycle_of_its_own():
    cycle = CyclicLR(**CYCLE)
    for _ in range(2):
        fit(compiled(), cycle)
    assert cycle.history["lr"] == 2 * RATES[:STEPS]


@pytest.mark.parametrize("trained_before", [0, 3])
def test_a_resumed_fit_goes_on_from_the_optimizers_count(trained_before, tmp_path):
    model = compiled()
    if trained_before:
        fit(model, epochs=trained_before)
    fit(model, CyclicLR(**CYCLE), epochs=2)
    model.save(tmp_path / "model.keras")
    for resumed in (model, keras.models.load_model(tmp_path / "model.keras")):
        cycle = CyclicLR(**CYCLE)
        fit(resumed, cycle, initial_epoch=2, epochs=4)
        assert cycle.history["lr"] == RATES[2 * STEPS : 4 * STEPS]


def test_a_pretrained_models_killed_fit_goes_on_in_its_own_cycle(tmp_path):
    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def attempt(*more):
        model, cycle = compiled(), CyclicLR(**CYCLE)
        fit(model, epochs=3)
        fit(model, cycle, keras.callbacks.BackupAndRestore(tmp_path / "backup"), *more, epochs=4)
        return cycle

    with pytest.raises(KeyboardInterrupt):
        attempt(Killed())
    assert attempt().history["lr"] == RATES[2 * STEPS : 4 * STEPS]


@pytest.mark.parametrize(
    "make, rates",
    [
        (lambda: CyclicLR(**CYCLE), RATES),
        (one_cycle, ONE),
        (lambda: OneCycleLR(0.1), ONE),
    ],
    ids=["cyclic", "one_cycle", "spanning"],
)
def test_with_weights_alone_a_resumed_fit_is_counted_by_its_epochs(make, rates):
    model, cycle = compiled(), make()
    with pytest.warns(UserWarning, match=r"epoch 2 \(initial_epoch\).*iteration 16.*reset") as said:
        fit(model, cycle, initial_epoch=2, epochs=4)
    assert sum("initial_epoch" in str(w.message) for w in said) == 1
    assert cycle.history["lr"] == rates[2 * STEPS : 4 * STEPS]
    momentum = cycle.history.get("momentum")
    if momentum:
        expected = OneCyclePolicy(0.1, 4 * STEPS).momentum(np.arange(2 * STEPS, 4 * STEPS))
        assert momentum == expected.tolist()


def test_a_reset_before_that_begins_a_new_cycle_without_a_word():
    model, cycle = compiled(), CyclicLR(**CYCLE)
    cycle.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, cycle, initial_epoch=2, epochs=6)
    assert cycle.history["lr"] == RATES[: 4 * STEPS]


# A training that is broken off


class Stop(keras.callbacks.Callback):
    def __init__(self, error, batch=3):
        super().__init__()
        self.error, self.batch = error, batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            raise self.error


def state(model):
    return [*model.get_weights(), *map(keras.ops.convert_to_numpy, model.optimizer.variables)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize("then", ["fit", "train_on_batch", "another callback", "apply"])
def test_a_training_broken_off_leaves_no_momentum_cycling(error, then):
    def train(model):
        model.optimizer.learning_rate = 0.01
        if then == "fit":
            fit(model)
        elif then == "another callback":
            fit(model, CyclicLR(1e-3, 1e-2, STEPS // 2))
        elif then == "train_on_batch":
            model.train_on_batch(X[:8], Y[:8])
        else:
            gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
            model.optimizer.apply(gradients, model.trainable_variables)

    model, other = compiled(), compiled()
    with pytest.raises(type(error)):
        fit(model, one_cycle(base_momentum=0.0, max_momentum=0.5), Stop(error), epochs=4)
    assert model.optimizer.momentum == 0.9
    model.optimizer.build(model.trainable_variables)
    other.optimizer.build(other.trainable_variables)
    for variable, value in zip(
        [*other.variables, *other.optimizer.variables], state(model), strict=True
    ):
        variable.assign(value)
    train(model)
    train(other)
    for one, same in zip(state(model), state(other), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-6)


def test_a_batch_that_broke_off_is_not_in_the_history():
    class Broken(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3:
                raise RuntimeError

    model, cycle = compiled(), CyclicLR(**CYCLE)
    with pytest.raises(RuntimeError):
        fit(model, cycle, Broken())
    fit(model, cycle)
    assert cycle.history["lr"] == RATES[: 3 + STEPS]
    assert cycle.history["iterations"] == list(range(1, 4 + STEPS))


# Copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
@pytest.mark.parametrize("cycle_momentum", [True, False])
def test_callbacks_copy_and_pickle_before_and_after_fit(copied, cycle_momentum):
    model, first = compiled(), CyclicLR(**CYCLE, cycle_momentum=cycle_momentum)
    cycle = copied(first)
    assert cycle.history == first.history and cycle.policy == first.policy
    fit(model, cycle)
    later = copied(cycle)
    assert later.model is None
    fit(model, later)  # It goes on, as the same callback would.
    assert later.history["lr"] == RATES[: 2 * STEPS]
    assert cycle.history["lr"] == RATES[:STEPS]
    again = copied(one_cycle())
    fit(model, again, epochs=4)
    assert again.history["lr"] == ONE
    spanning = copied(OneCycleLR(0.1))
    fit(model, copied(spanning), spanning, epochs=0)


def test_one_cycle_that_has_ended_says_how_to_begin_another():
    model, cycle = compiled(), one_cycle()
    fit(model, cycle, epochs=4)
    with pytest.warns(UserWarning, match=r"total_steps=32 has ended.*Call reset\(\)"):
        fit(model, cycle, epochs=4)
    cycle.reset()
    fit(model, cycle, epochs=4)
    assert cycle.history["lr"][8 * STEPS :] == ONE

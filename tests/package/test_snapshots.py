import copy
import pickle
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from small_data import SMALL, subset

from clr import CyclicalLearningRate, CyclicLR, OneCycleLR, Snapshots, train

X = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
Y = np.eye(3, dtype="float32")[np.arange(96) % 3]
STEPS = 3  # Batches of 32.


def compiled(optimizer="sgd", units=3):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, "softmax")])
    model.compile(optimizer, "mse")
    return model


def cycle_of(**options):
    return CyclicLR(1e-3, 0.5, **(options or {"step_size": STEPS}))


def schedule():
    return CyclicalLearningRate(1e-3, 0.5, step_size=STEPS)


def fit(model, *callbacks, epochs=6, y=Y, **options):
    options = {"epochs": epochs, "verbose": 0, "callbacks": list(callbacks), **options}
    model.fit(X, y, batch_size=32, **options)


def trained(epochs=6, **options):
    model, cycle = compiled(), cycle_of()
    snapshots = Snapshots(cycle, **options)
    kept = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(model.get_weights())
    )
    fit(model, cycle, snapshots, watch, epochs=epochs)
    return model, snapshots, kept


def equal(weights, others):
    return all(np.array_equal(one, other) for one, other in zip(weights, others, strict=True))


def test_the_weights_of_each_cycles_end_are_kept():
    _, snapshots, kept = trained()
    assert list(snapshots.weights) == [1, 2, 3]
    for number, epoch in [(1, 1), (2, 3), (3, 5)]:
        assert equal(snapshots.weights[number], kept[epoch])


def test_a_schedule_has_the_snapshots_of_the_callback():
    cycle = schedule()
    snapshots = Snapshots(cycle)
    fit(compiled(keras.optimizers.SGD(cycle)), snapshots)
    _, others, _ = trained()
    assert list(snapshots.weights) == [1, 2, 3]
    for number, weights in snapshots.weights.items():
        for one, other in zip(weights, others.weights[number], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_train_step_of_ones_own_has_the_snapshots_of_any():
    class Own(keras.Sequential):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    keras.utils.set_random_seed(0)
    model, cycle = Own([keras.Input((4,)), keras.layers.Dense(3, "softmax")]), cycle_of()
    model.compile("sgd", "mse")
    snapshots = Snapshots(cycle)
    fit(model, cycle, snapshots)
    assert list(snapshots.weights) == [1, 2, 3] and equal(snapshots.weights[3], model.get_weights())


# Which training run


@pytest.mark.parametrize("what", ["model", "optimizer", "model that was trained before"])
def test_what_another_training_run_kept_is_forgotten_as_fit_begins(what):
    model, snapshots, _ = trained(8)
    first = snapshots.weights
    if what == "optimizer":
        model.compile("sgd", "mse")
    else:
        model = compiled()
    cycle = snapshots.cycle
    if what == "model that was trained before":
        fit(model, cycle_of(), epochs=8)
    fit(model, cycle, snapshots, epochs=4, y=1 - Y)
    assert len(snapshots.weights) == 2 and sorted(first) == [1, 2, 3, 4]
    assert not any(equal(w, old) for w in snapshots.weights.values() for old in first.values())


def test_a_second_fit_of_the_same_model_goes_on():
    model, snapshots, _ = trained(4)
    first = dict(snapshots.weights)
    fit(model, snapshots.cycle, snapshots, epochs=2)
    assert sorted(snapshots.weights) == [1, 2, 3]
    assert all(snapshots.weights[number] is first[number] for number in first)


@pytest.mark.parametrize("reset", [False, True])
def test_cycles_that_count_anew_are_not_mixed_with_those_before(reset):
    model, cycle = compiled(), cycle_of() if reset else cycle_of(cycles=3)
    snapshots = Snapshots(cycle)
    fit(model, cycle, snapshots)
    first = snapshots.weights
    assert sorted(first) == [1, 2, 3]
    if reset:
        cycle.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The fit stops in mid-cycle.
        stop = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 2)
        )
        fit(model, cycle, snapshots, stop)
    assert sorted(snapshots.weights) == [1]
    assert not equal(snapshots.weights[1], first[1])


def test_a_reset_within_fit_is_no_end_of_a_cycle():
    model, cycle = compiled(), cycle_of()
    snapshots = Snapshots(cycle)
    restart = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: cycle.reset() if epoch == 4 else None
    )
    with pytest.warns(UserWarning, match="mid-cycle, 3 iterations into a cycle of 6"):
        fit(model, cycle, snapshots, restart, epochs=7)
    assert sorted(snapshots.weights) == [1]


# The cycle


def test_a_schedule_that_the_optimizer_does_not_have_is_refused():
    model = compiled(keras.optimizers.SGD(schedule()))
    with pytest.raises(ValueError, match=r"`cycle` must be the schedule.*Received: cycle="):
        fit(model, Snapshots(schedule()))


@pytest.mark.parametrize("place", ["after", "absent", "absent now", "on another model"])
def test_a_cycle_that_is_not_an_earlier_callback_of_this_fit_is_refused(place):
    model, cycle = compiled(), cycle_of()
    snapshots = Snapshots(cycle)
    if place == "absent now":
        fit(model, cycle, snapshots)
    if place == "on another model":
        fit(compiled(), cycle)
    before, callbacks = model.get_weights(), [snapshots, *([cycle] if place == "after" else [])]
    with pytest.raises(ValueError, match=r"`cycle` must stand before Snapshots.*Received:.*cycle="):
        fit(model, *callbacks)
    assert equal(model.get_weights(), before)


def test_callbacks_called_by_hand_find_each_other():
    model, cycle = compiled(), cycle_of()
    snapshots = Snapshots(cycle)
    with pytest.raises(RuntimeError, match=r"on_epoch_begin\(epoch\) before"):
        snapshots.on_epoch_end(0)
    params = {"steps": STEPS, "epochs": 2}
    for callback in (cycle, snapshots):
        callback.set_model(model)
        callback.set_params(params)
    for callback in (cycle, snapshots):
        callback.on_train_begin()
    for epoch in range(2):
        cycle.on_epoch_begin(epoch), snapshots.on_epoch_begin(epoch)
        for batch in range(STEPS):
            cycle.on_train_batch_begin(batch)
            model.train_on_batch(X[:32], Y[:32])
        cycle.on_epoch_end(epoch), snapshots.on_epoch_end(epoch)
    assert list(snapshots.weights) == [1]


def test_only_cycles_have_ends():
    with pytest.raises(TypeError, match=r"`cycle` must be a CyclicLR.*cycle="):
        Snapshots(OneCycleLR(0.1, 10))


# The folder


def test_a_resumed_training_has_the_snapshots_of_before(tmp_path):
    model, first, _ = trained(4, folder=tmp_path)
    cycle = cycle_of()
    again = Snapshots(cycle, folder=tmp_path)
    fit(model, cycle, again, epochs=6, initial_epoch=4)
    assert sorted(again.weights) == [1, 2, 3]
    assert all(equal(first.weights[number], again.weights[number]) for number in (1, 2))


def test_a_resumed_training_with_nothing_left_to_do_has_them_too(tmp_path):
    rate = schedule()
    model = compiled(keras.optimizers.SGD(rate))
    fit(model, Snapshots(rate, tmp_path), epochs=4)
    again = Snapshots(rate, tmp_path)
    fit(model, again, epochs=4, initial_epoch=4)
    assert sorted(again.weights) == [1, 2]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("has_same_object", [False, True])
def test_a_training_that_begins_refuses_the_folder_of_another(tmp_path, has_same_object):
    _, first, _ = trained(4, folder=tmp_path)
    there, model, cycle = files(tmp_path), compiled(), first.cycle
    snapshots = first if has_same_object else Snapshots(cycle, folder=tmp_path)
    with pytest.raises(ValueError, match=r"`folder` must be a new one.*snapshot-001.*just begun"):
        fit(model, cycle, snapshots)
    assert files(tmp_path) == there and snapshots.weights == {}


def test_weights_of_other_shapes_are_another_trainings(tmp_path):
    trained(4, folder=tmp_path)
    there, model, cycle = files(tmp_path), compiled(units=5), cycle_of()
    y = np.eye(5)[np.arange(96) % 5]
    fit(model, cycle, epochs=4, y=y)
    snapshots = Snapshots(cycle, folder=tmp_path)
    with pytest.raises(ValueError, match=r"`folder` must be.*snapshot-001.*other shapes"):
        fit(model, cycle, snapshots, y=y, initial_epoch=4)
    assert files(tmp_path) == there


def test_snapshots_later_than_a_resumed_training_are_not_mixed_in(tmp_path):
    trained(6, folder=tmp_path)
    there, model, cycle = files(tmp_path), compiled(), cycle_of()
    fit(model, cycle, epochs=2)  # A checkpoint of then, as it were.
    snapshots = Snapshots(cycle, folder=tmp_path)
    with pytest.warns(UserWarning, match=r"snapshot-002.* later cycle.* ended, 1\. .*replaced"):
        fit(model, cycle, snapshots, epochs=4, y=1 - Y, initial_epoch=2)
    assert sorted(snapshots.weights) == [1, 2]
    changed = [name for name, content in files(tmp_path).items() if content != there[name]]
    assert changed == ["snapshot-002.npz"]


def test_a_new_fit_of_the_same_model_replaces_its_own_files(tmp_path):
    model, cycle = compiled(), cycle_of(cycles=2)
    snapshots = Snapshots(cycle, tmp_path)
    fit(model, cycle, snapshots, epochs=4)
    there = files(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, cycle, snapshots, epochs=4)
    now = files(tmp_path)
    assert now.keys() == there.keys() and all(now[name] != there[name] for name in now)


def test_a_damaged_snapshot_is_passed_over_with_a_warning(tmp_path):
    model, _, _ = trained(4, folder=tmp_path)
    (tmp_path / "snapshot-001.npz").write_bytes(b"damaged")
    cycle = cycle_of()
    snapshots = Snapshots(cycle, folder=tmp_path)
    with pytest.warns(UserWarning, match=r"snapshot-001\.npz is damaged and passed over"):
        fit(model, cycle, snapshots, epochs=6, initial_epoch=4)
    assert sorted(snapshots.weights) == [2, 3]


# Predictions


def test_the_prediction_is_the_mean_of_the_snapshots_and_leaves_the_model_alone():
    model, snapshots, _ = trained()
    before, alone = model.get_weights(), []
    for weights in snapshots.weights.values():
        model.set_weights(weights)
        alone.append(model.predict(X, verbose=0))
    model.set_weights(before)
    assert np.abs(alone[0] - alone[2]).max() > 1e-3
    np.testing.assert_allclose(snapshots.predict(X), np.mean(alone, axis=0), atol=1e-6)
    np.testing.assert_allclose(snapshots.predict(X, last=2), np.mean(alone[1:], axis=0), atol=1e-6)
    np.testing.assert_allclose(snapshots.predict(X, last=1, verbose=0), alone[2], atol=1e-6)
    assert equal(model.get_weights(), before)


STRUCTURES = {
    "list": lambda one, two: [one, two],
    "tuple": lambda one, two: (one, two),
    "dictionary": lambda one, two: {"one": one, "two": two},
    "nested": lambda one, two: {"both": [one, {"two": two}]},
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_several_outputs_keep_the_structure_that_the_model_predicts(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    parts = [keras.layers.Dense(units, name=f"of_{units}")(inputs) for units in (3, 2)]
    model, snapshots, alone = (
        keras.Model(inputs, STRUCTURES[name](*parts)),
        Snapshots(cycle_of()),
        [],
    )
    snapshots.set_model(model)
    for number in (1, 2):
        alone.append(model.predict(X, verbose=0))
        snapshots.weights[number] = model.get_weights()
        model.set_weights([array + number for array in model.get_weights()])
    together = snapshots.predict(X)
    keras.tree.assert_same_structure(together, alone[0])
    for mean, *each in zip(*map(keras.tree.flatten, (together, *alone)), strict=True):
        np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")
def test_without_a_cycles_end_there_is_nothing_to_predict_with():
    with pytest.warns(UserWarning, match="No cycle ended in this `fit`") as caught:
        model, snapshots, _ = trained(1)
        with pytest.raises(ValueError, match=r"`last` must be.*0.*last=None"):
            snapshots.predict(X)
        model.stop_training = False
        snapshots.cycle.reset()
        fit(model, snapshots.cycle, snapshots, epochs=1)
    assert sum("No cycle ended" in str(warning.message) for warning in caught) == 1
    _, snapshots, _ = trained(2)
    for wrong in (2, 0):
        with pytest.raises(ValueError, match=rf"`last` must be.*1.*last={wrong}"):
            snapshots.predict(X, last=wrong)


def test_without_a_model_there_is_nothing_to_predict_with():
    with pytest.raises(ValueError, match=r"`Snapshots` has no model.*Received: model=None"):
        Snapshots(cycle_of()).predict(X)


def test_data_that_can_be_read_only_once_are_refused():
    _, snapshots, _ = trained(2)
    with pytest.raises(ValueError, match=r"`x` must be data that each snapshot can read.*x=<gen"):
        snapshots.predict((X[:32] for _ in range(3)), steps=3)


# Copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_the_weights_and_goes_on_with_a_model_that_it_is_given(copied):
    assert copied(Snapshots(cycle_of())).weights == {}
    rate = schedule()
    model = compiled(keras.optimizers.SGD(rate))
    snapshots = Snapshots(rate)
    fit(model, snapshots, epochs=4)
    again = copied(snapshots)
    assert sorted(again.weights) == [1, 2] and snapshots.model is model
    with pytest.raises(ValueError, match=r"has no model.*set_model\(model\)"):
        again.predict(X)
    again.set_model(model)
    np.testing.assert_array_equal(again.predict(X), snapshots.predict(X))
    again.cycle = rate
    fit(model, again, epochs=2)
    assert sorted(again.weights) == [1, 2, 3]


# In a run


def test_a_run_tells_the_ensembles_accuracy_beside_the_single_ones(eager, tmp_path):
    experiment = replace(SMALL, width=0.05, num_epochs=4, augment=False)
    run = train(experiment, subset(64, 20), verbose=False, run_dir=tmp_path)
    assert len(run.snapshots["accuracy"]) == 2
    assert run.snapshots["accuracy"][-1] == run.test_accuracy
    assert 0 <= run.snapshots["ensemble"] <= 1
    again = train(experiment, subset(64, 20), verbose=False, run_dir=tmp_path)
    assert again.snapshots == run.snapshots  # Nothing was left to train.


def test_a_run_too_short_for_a_cycle_says_nothing_of_snapshots(eager):
    experiment = replace(SMALL, width=0.05, num_epochs=1, step_size=4, augment=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "No cycle ended")
        assert train(experiment, subset(32, 20), verbose=False).snapshots is None

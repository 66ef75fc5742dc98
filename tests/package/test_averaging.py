"""`AveragedWeights`: which weights, where they are kept, and what `apply` and `restore` do."""

import copy
import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import torch_average
from markers import BACKEND, needs_tensorflow
from small_data import SMALL, subset

from clr import AveragedWeights, CyclicalLearningRate, CyclicLR, OneCycleLR, Run, train
from clr.averaging import FILES_KEPT

X = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
Y = np.eye(3, dtype="float32")[np.arange(96) % 3]
STEPS = 3  # Batches of 32.


def compiled(optimizer="sgd", units=3, dtype=None):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(8, dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.Dense(units, "softmax", dtype=dtype),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse")
    return model


def cycle_of(**options):
    return CyclicLR(1e-3, 0.5, **(options or {"step_size": STEPS}))


def schedule():
    return CyclicalLearningRate(1e-3, 0.5, step_size=STEPS)


def fit(model, *callbacks, epochs=6, y=Y, **options):
    options = {"epochs": epochs, "verbose": 0, "shuffle": False, **options}
    model.fit(X, y, batch_size=32, callbacks=list(callbacks), **options)


def watched(model, *callbacks, **options):
    """Trains, and returns the weights that trained at each epoch's end."""
    kept = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(trainable(model))
    )
    fit(model, *callbacks, watch, **options)
    return kept


def trainable(model, weights=None):
    weights = model.get_weights() if weights is None else weights
    chosen = {id(variable) for variable in model.trainable_weights}
    return [w for v, w in zip(model.weights, weights, strict=True) if id(v) in chosen]


def equal(weights, others):
    return all(np.array_equal(one, other) for one, other in zip(weights, others, strict=True))


def assert_mean(model, average, networks):
    for found, *each in zip(trainable(model, average.weights), *networks, strict=True):
        np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)


# The average


def put(weights, model):
    """Puts a network of torch_average.py into the model that corresponds to torch's."""
    first, norm, _, last = model.layers
    kernel, gamma, beta, *others = weights.values()
    first.set_weights([kernel])
    norm.set_weights([gamma, beta, *norm.get_weights()[2:]])
    last.set_weights(others)


def test_it_is_the_average_of_pytorch_with_its_statistics():
    layers = keras.layers
    stack = [layers.Dense(8, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((4,)), *stack, layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    networks, average = iter(torch_average.networks()), AveragedWeights(start=0)
    other = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: put(next(networks), model))
    fit(model, other, average, epochs=torch_average.NETWORKS)
    average.apply(iter(torch_average.batches()), steps=4)
    with np.load(torch_average.STORED) as stored:
        expected = dict(stored)
    names = ["kernel", "gamma", "beta", "mean", "variance", "last_kernel", "last_bias"]
    for name, found in zip(names, model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected[name], rtol=2e-6, atol=1e-6, err_msg=name)
    outputs = model.predict(np.concatenate(torch_average.batches()), verbose=0)
    np.testing.assert_allclose(outputs, expected["outputs"], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="needs torch")
def test_what_is_stored_is_what_pytorch_says():
    with np.load(torch_average.STORED) as stored:
        for name, found in torch_average.torch_average().items():
            np.testing.assert_allclose(found, stored[name], rtol=1e-5, atol=1e-6)


SHAPES = {
    "triangular": {"step_size": STEPS},
    "triangular2": {"step_size": STEPS, "mode": "triangular2"},
    "one's own": {"step_size": STEPS, "scale_fn": lambda cycle: 1 / cycle},
    "cycles of fit": {"cycles": 3},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ends_of_cycles_are_averaged(shape):
    model, cycle = compiled(), cycle_of(**SHAPES[shape])
    average = AveragedWeights(cycle)
    kept = watched(model, cycle, average)
    assert average.numbers == [1, 2, 3]
    assert_mean(model, average, kept[1::2])
    assert equal(average.weights[4:6], model.get_weights()[4:6])  # Statistics are the last's.


def test_a_schedule_has_the_average_of_the_callback():
    rate = schedule()
    average, model = AveragedWeights(rate), compiled(keras.optimizers.SGD(rate))
    kept = watched(model, average)
    assert average.numbers == [1, 2, 3]
    assert_mean(model, average, kept[1::2])


def test_of_cycles_start_leaves_the_first_ones_out():
    model, cycle = compiled(), cycle_of()
    average = AveragedWeights(cycle, start=0.5)
    kept = watched(model, cycle, average, epochs=8)
    assert average.numbers == [3, 4]
    assert_mean(model, average, kept[5::2])


@pytest.mark.parametrize(
    ("start", "epochs", "numbers"),
    [
        (None, 8, [7, 8]),
        (None, 9, [7, 8, 9]),
        (0.5, 4, [3, 4]),
        (0, 2, [1, 2]),
        (0.7, 10, [8, 9, 10]),
    ],
)
def test_without_a_cycle_the_ends_of_the_last_epochs_are_averaged(start, epochs, numbers):
    model = compiled()
    average = AveragedWeights(start=start)
    kept = watched(model, OneCycleLR(0.5), average, epochs=epochs)
    assert average.numbers == numbers
    assert_mean(model, average, [kept[number - 1] for number in numbers])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_the_average_is_one_of_float32_whatever_the_precision(dtype):
    model, average = compiled(dtype=dtype), AveragedWeights(start=0)
    kept = watched(model, average, epochs=3)
    assert {array.dtype for array in average.weights} == {np.dtype("float32")}
    for found, *each in zip(trainable(model, average.weights), *kept, strict=True):
        exact = np.mean([np.asarray(array, "float64") for array in each], axis=0)
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-7)
    dtypes = [variable.dtype for variable in model.weights]
    average.apply(X)
    assert [variable.dtype for variable in model.weights] == dtypes


def test_frozen_layers_are_the_last_networks():
    model = compiled()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    average = AveragedWeights(start=0)
    fit(model, average)
    assert equal(average.weights[:2], model.get_weights()[:2])
    assert not equal(average.weights[-2:], model.get_weights()[-2:])


# In the model and out of it


def test_fit_leaves_the_last_weights_and_apply_and_restore_change_them(tmp_path):
    model, plain, cycle = compiled(), compiled(), cycle_of()
    average = AveragedWeights(cycle)
    fit(model, cycle, average)
    fit(plain, cycle_of())
    last = model.get_weights()
    assert equal(last, plain.get_weights())
    for _ in range(2):  # Twice is as once.
        average.apply(X)
    assert equal(trainable(model), trainable(model, average.weights))
    assert equal(average.last, last)
    predicted = model.predict(X, verbose=0)
    model.save(tmp_path / "averaged.keras")
    saved = keras.models.load_model(tmp_path / "averaged.keras")
    np.testing.assert_allclose(saved.predict(X, verbose=0), predicted, atol=1e-6)
    average.restore()
    assert equal(model.get_weights(), last)
    assert np.abs(predicted - model.predict(X, verbose=0)).max() > 1e-3


def test_a_fit_of_the_average_is_refused_and_so_is_a_restore_after_one():
    model, average = compiled(), AveragedWeights(start=0)
    fit(model, average)
    with pytest.raises(ValueError, match=r"`restore` needs a model that holds the average"):
        average.restore()
    average.apply(X)
    with pytest.raises(ValueError, match=r"Call restore\(\) first, or train on.*Received"):
        fit(model, average)
    fit(model)
    with pytest.raises(ValueError, match=r"`restore` would undo.*Received: 36 updates.*18 at"):
        average.restore()
    fit(model, AveragedWeights(start=0))


def test_what_fails_leaves_the_model_as_it_was():
    model, average = compiled(), AveragedWeights(start=0)
    with pytest.raises(ValueError, match=r"no model to put.*Received: model=None"):
        average.apply(X)
    average.set_model(model)
    with pytest.raises(ValueError, match=r"`apply` needs an average.*numbers=\[\], start=0"):
        average.apply(X)
    fit(model, average)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"`x` must be training data.*Received: x=None"):
        average.apply()
    assert equal(model.get_weights(), before) and average.last is None


# Which training run


def test_a_second_fit_goes_on_and_another_model_begins_anew():
    model, cycle = compiled(), cycle_of()
    average = AveragedWeights(cycle)
    kept = watched(model, cycle, average, epochs=4)
    kept += watched(model, cycle, average, epochs=2)
    assert average.numbers == [1, 2, 3]
    assert_mean(model, average, kept[1::2])
    other = compiled()
    kept = watched(other, cycle, average, epochs=4)
    assert average.numbers == [1, 2]
    assert_mean(other, average, kept[1::2])


def test_without_a_cycle_epochs_that_count_anew_begin_an_average():
    model, average = compiled(), AveragedWeights(start=0)
    kept = watched(model, average, epochs=2)
    kept += watched(model, average, epochs=4, initial_epoch=2)
    assert average.numbers == [1, 2, 3, 4]
    assert_mean(model, average, kept)
    kept = watched(model, average, epochs=2)
    assert average.numbers == [1, 2]
    assert_mean(model, average, kept)


def test_after_a_reset_the_average_begins_anew():
    model, cycle = compiled(), cycle_of()
    average = AveragedWeights(cycle)
    fit(model, cycle, average)
    cycle.reset()
    kept = watched(model, cycle, average, epochs=4)
    assert average.numbers == [1, 2]
    assert_mean(model, average, kept[1::2])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_the_average_and_goes_on_with_a_model_that_it_is_given(copied):
    rate = schedule()
    model = compiled(keras.optimizers.SGD(rate))
    average = AveragedWeights(rate)
    fit(model, average, epochs=4)
    again = copied(average)
    assert again.numbers == [1, 2] and average.model is model
    with pytest.raises(ValueError, match=r"has no model.*set_model\(model\)"):
        again.apply(X)
    again.set_model(keras.models.clone_model(model))  # Not compiled.
    again.apply(X)
    assert equal(trainable(again.model), trainable(model, average.weights))
    again.restore()
    again.cycle = rate
    fit(model, again, epochs=2)
    assert again.numbers == [1, 2, 3] and average.numbers == [1, 2]


# The folder


def resumable(folder, at, **options):
    """Trains a model to an epoch, and lets another process, as it were, go on to the last."""
    model = compiled()
    first = AveragedWeights(folder=folder, **options)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch + 1 == at)
    )
    with warnings.catch_warnings(action="ignore"):
        fit(model, first, stop, epochs=8)
    model.stop_training = False
    again = AveragedWeights(folder=folder, **options)
    return model, again


@pytest.mark.parametrize("at", [5, 6, 7])
def test_a_resumed_training_has_the_very_average_of_one_never_stopped(tmp_path, at):
    whole, average = compiled(), AveragedWeights(start=0.5)
    fit(whole, average, epochs=8)
    model, again = resumable(tmp_path, at, start=0.5)
    fit(model, again, epochs=8, initial_epoch=at)
    assert again.numbers == average.numbers == [5, 6, 7, 8]
    assert equal(again.weights, average.weights)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"average-00{number}.npz" for number in range(9 - FILES_KEPT, 9)
    ]
    third = AveragedWeights(start=0.5, folder=tmp_path)
    fit(model, third, epochs=8, initial_epoch=8)  # Nothing is left to train.
    assert equal(third.weights, average.weights)


def test_an_average_later_than_the_checkpoint_is_not_used(tmp_path):
    whole, average = compiled(), AveragedWeights(start=0)
    fit(whole, average, epochs=4)
    model = compiled()
    fit(model, AveragedWeights(start=0, folder=tmp_path), epochs=3)
    model = compiled()
    fit(model, epochs=2)  # The checkpoint, as it were, of an epoch before.
    again = AveragedWeights(start=0, folder=tmp_path)
    with pytest.warns(UserWarning, match=r"average-003.* later epoch .* made, 2\. .*replaced"):
        fit(model, again, epochs=4, initial_epoch=2)
    assert again.numbers == [1, 2, 3, 4] and equal(again.weights, average.weights)


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path):
    fit(compiled(), AveragedWeights(start=0, folder=tmp_path), epochs=2, steps_per_epoch=1)
    (tmp_path / "average-002.npz").unlink()
    again = AveragedWeights(start=0, folder=tmp_path)
    with pytest.warns(UserWarning, match=r"average-001.* is of a later epoch"):
        fit(compiled(), again, epochs=2)
    assert again.numbers == [1, 2]


def test_a_training_that_begins_refuses_the_folder_of_another(tmp_path):
    fit(compiled(), AveragedWeights(start=0, folder=tmp_path), epochs=2)
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"`folder` must be a new one.*averages away.*just begun"):
        fit(compiled(), AveragedWeights(start=0, folder=tmp_path), epochs=2)
    with pytest.raises(ValueError, match=r"`folder` must be.*average-002.*other shapes"):
        other = compiled(units=5)
        y = np.eye(5)[np.arange(96) % 5]
        fit(other, AveragedWeights(folder=tmp_path), epochs=4, initial_epoch=2, y=y)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there


def test_a_damaged_average_is_passed_over_for_the_one_before_it(tmp_path):
    model, again = resumable(tmp_path, 7, start=0.5)
    (tmp_path / "average-007.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"average-007\.npz is damaged and passed over"):
        fit(model, again, epochs=8, initial_epoch=7)
    assert again.numbers == [5, 6, 8]


def test_a_resumed_training_without_its_average_says_so():
    model, again = resumable(None, 7, start=0.5)
    with pytest.warns(UserWarning, match=r"goes on after epoch 7.*no average.*folder=None"):
        fit(model, again, epochs=9, initial_epoch=7)
    assert again.numbers == [8, 9]


# Nothing to average, and bad arguments


@pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")
@pytest.mark.parametrize(
    ("options", "epochs", "said"),
    [
        ({"cycle": cycle_of(step_size=10**6)}, 2, "two cycles ended, so that the average is empty"),
        ({"cycle": cycle_of()}, 2, "cycles ended, so that the average is the weights of one alone"),
        ({}, 2, r"two epochs ended after the share start=0\.75.*of one alone.*begin earlier"),
    ],
)
def test_an_average_of_fewer_than_two_is_warned_of_once(options, epochs, said):
    model, average = compiled(), AveragedWeights(**options)
    callbacks = [*options.values(), average]
    with pytest.warns(UserWarning, match=said):
        fit(model, *callbacks, epochs=epochs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Fewer than two")
        fit(model, *callbacks, epochs=epochs)


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_optimizer_with_an_average_of_its_own_is_refused(wrapped):
    optimizer = keras.optimizers.SGD(use_ema=True)
    if wrapped:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    with pytest.raises(ValueError, match=r"use_ema=True \(for SwapEMAWeights\).*Received: opti"):
        fit(compiled(optimizer), keras.callbacks.SwapEMAWeights(), AveragedWeights(start=0))


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"`cycle` must be a CyclicLR.*or None.*cycle="):
        AveragedWeights(OneCycleLR(0.1, 10))
    with pytest.raises(ValueError, match=r"`start`.*start=1\.0"):
        AveragedWeights(start=1.0)
    with pytest.raises(ValueError, match=r"`cycle` must stand before AveragedWeights"):
        cycle = cycle_of()
        fit(compiled(), AveragedWeights(cycle), cycle)
    by_hand = AveragedWeights()
    by_hand.set_model(compiled())
    by_hand.on_train_begin()
    with pytest.raises(ValueError, match=r"`start` is a share of the epochs.*start=0.75"):
        by_hand.on_epoch_begin(0), by_hand.on_epoch_end(0)


# Several devices


@needs_tensorflow
def test_on_two_replicas_the_average_is_that_of_one():
    script = Path(__file__).parents[1] / "support" / "mirrored_average.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout).values()
    assert one["numbers"] == two["numbers"] == [1, 2, 3]
    for name in ("average", "prediction"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-4)
    assert all(found["back"] and found["agree"] for found in (one, two))


# In a run


AVERAGED = replace(SMALL, width=0.05, num_epochs=5, augment=False, average=True)


@pytest.fixture(scope="module", params=["triangular", "constant"])
def whole(request, eager, tmp_path_factory):
    """A run that nothing broke off, its data and its folder."""
    experiment = replace(AVERAGED, clr_method=request.param, max_lr=0.05)
    data, folder = subset(64, 20), tmp_path_factory.mktemp("whole")
    return train(experiment, data, verbose=False, run_dir=folder), data, folder


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.*:UserWarning")
def test_a_run_tells_the_averages_accuracy_and_trains_as_without(whole, tmp_path):
    run, data, folder = whole
    experiment = run.experiment
    method = experiment.clr_method
    plain = train(replace(experiment, average=False), data, verbose=False)
    assert run.history == plain.history and run.confusion == plain.confusion
    assert equal(run.model.get_weights(), plain.model.get_weights())
    assert plain.averaged is None and plain.average is None
    assert run.averaged["numbers"] == ([1, 2] if method == "triangular" else [4, 5])
    again = train(experiment, data, verbose=False, run_dir=folder)
    assert again.averaged == run.averaged  # Nothing was left to train.

    again.average.apply(data.x_train, experiment.batch_size)
    guessed = again.model.predict(data.x_test, verbose=0).argmax(axis=1)
    assert np.mean(guessed == data.y_test.argmax(axis=1)) == run.averaged["accuracy"]

    run.save(tmp_path / "run.json")
    loaded = Run.load(tmp_path / "run.json")
    assert loaded == run and loaded.average is None
    beside = loaded.side_by_side().splitlines()
    assert ["average of 2" in line for line in beside].count(True) == 1
    assert f"{run.seconds['average']:.1f}" in beside[2]
    has_ensemble = "ensemble of 2" in loaded.side_by_side()
    assert has_ensemble == (method == "triangular") == (plain.side_by_side() is not None)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.*:UserWarning")
def test_broken_off_between_average_and_checkpoint_a_run_ends_as_one_that_was_not(whole, tmp_path):
    run, data, _ = whole
    experiment, broken = run.experiment, tmp_path / "broken"

    def breaks(at):  # Called after the average is written, and before the checkpoint is.
        def on_epoch_end(epoch, logs):
            if epoch + 1 == at:
                raise KeyboardInterrupt

        return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)

    for at in (4, 4, 5):  # The end of a cycle, or of an epoch that is averaged; twice the same.
        with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
            warnings.filterwarnings("ignore", ".*is of a later")
            train(experiment, data, verbose=False, run_dir=broken, callbacks=[breaks(at)])
        assert not (broken / f"checkpoint-0000{at}.npz").exists()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is of a later")
        again = train(experiment, data, verbose=False, run_dir=broken)
    assert again.history == run.history and again.averaged == run.averaged
    assert equal(again.model.get_weights(), run.model.get_weights())
    assert again.average.numbers == run.average.numbers
    assert equal(again.average.weights, run.average.weights)


def test_a_run_that_has_nothing_to_average_is_refused():
    with pytest.raises(ValueError, match=r"`average` needs two cycles.*12 epochs.*step_size=3"):
        replace(SMALL, num_epochs=11, step_size=3, average=True)
    with pytest.raises(ValueError, match=r"`average` needs two epochs.*5 epochs.*num_epochs=4"):
        replace(SMALL, num_epochs=4, clr_method="cosine", average=True)
    with pytest.raises(TypeError, match=r"`average` must be a bool.*average=1"):
        replace(SMALL, average=1)

from dataclasses import replace

import keras
import numpy as np
import pytest
from small_data import SMALL, subset

from clr import CyclicalLearningRate, CyclicLR, OneCycleLR, Snapshots, train

X = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
Y = np.eye(3, dtype="float32")[np.arange(96) % 3]
STEPS = 3  # Batches of 32.


def trained(epochs=6, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "categorical_crossentropy")
    cycle = CyclicLR(1e-3, 0.5, step_size=STEPS)
    snapshots = Snapshots(cycle, **options)
    kept = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(model.get_weights())
    )
    model.fit(X, Y, batch_size=32, epochs=epochs, verbose=0, callbacks=[cycle, snapshots, watch])
    return model, snapshots, kept


def test_the_weights_of_each_cycles_end_are_kept():
    _, snapshots, kept = trained()
    assert list(snapshots.weights) == [1, 2, 3]
    for number, epoch in [(1, 1), (2, 3), (3, 5)]:
        for one, other in zip(snapshots.weights[number], kept[epoch], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_schedule_has_the_snapshots_of_the_callback():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    cycle = CyclicalLearningRate(1e-3, 0.5, step_size=STEPS)
    model.compile(keras.optimizers.SGD(cycle), "categorical_crossentropy")
    snapshots = Snapshots(cycle)
    model.fit(X, Y, batch_size=32, epochs=6, verbose=0, callbacks=[snapshots])
    _, others, _ = trained()
    assert list(snapshots.weights) == [1, 2, 3]
    for number, weights in snapshots.weights.items():
        for one, other in zip(weights, others.weights[number], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_schedule_that_the_optimizer_does_not_have_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(CyclicalLearningRate(1e-3, 0.5, step_size=STEPS)), "mse")
    another = Snapshots(CyclicalLearningRate(1e-3, 0.5, step_size=STEPS))
    with pytest.raises(ValueError, match=r"`cycle` must be the schedule.*Received: cycle="):
        model.fit(X, Y, batch_size=32, verbose=0, callbacks=[another])


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
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_resumed_training_has_the_snapshots_of_before(tmp_path):
    model, first, _ = trained(4, folder=tmp_path)
    cycle = CyclicLR(1e-3, 0.5, step_size=STEPS)
    again = Snapshots(cycle, folder=tmp_path)
    model.fit(X, Y, batch_size=32, initial_epoch=4, epochs=6, verbose=0, callbacks=[cycle, again])
    assert sorted(again.weights) == [1, 2, 3]
    for number in (1, 2):
        for one, other in zip(first.weights[number], again.weights[number], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")
def test_without_a_cycles_end_there_is_nothing_to_predict_with():
    _, snapshots, _ = trained(1)
    with pytest.raises(ValueError, match=r"`last` must be.*0.*last=None"):
        snapshots.predict(X)
    _, snapshots, _ = trained(2)
    with pytest.raises(ValueError, match=r"`last` must be.*1.*last=2"):
        snapshots.predict(X, last=2)


def test_only_cycles_have_ends():
    with pytest.raises(TypeError, match=r"`cycle` must be a CyclicLR.*cycle="):
        Snapshots(OneCycleLR(0.1, 10))


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.*:UserWarning")
def test_a_run_tells_the_ensembles_accuracy_beside_the_single_ones(eager):
    experiment = replace(SMALL, width=0.05, num_epochs=4, augment=False)
    run = train(experiment, subset(64, 20), verbose=False)
    assert len(run.snapshots["accuracy"]) == 2
    assert run.snapshots["accuracy"][-1] == run.test_accuracy
    assert 0 <= run.snapshots["ensemble"] <= 1

import ast
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from markers import TENSORFLOW, needs_tensorflow
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from clr.callback import CyclicLR
from clr.range_test import SOURCES, RangeTest, Suggestion, lr_range_test, reading

matplotlib.use("agg")

ROOT = Path(__file__).resolve().parents[2]


def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int32")


X, Y = digits()  # 1,797 examples: the last batch is always a partial one.


def net(optimizer):
    """A net with something of each kind to put back: slots, seeds, moving averages, metrics."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def plain_net(loss="sparse_categorical_crossentropy", units=10, features=64, last="softmax"):
    """A net without randomness, traced once so that the tests that share it are quick."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(16, activation="tanh", kernel_regularizer="l2"),
            keras.layers.Dense(units, activation=last),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=loss)
    return model


@pytest.fixture(scope="module")
def shared():
    model = plain_net()
    model.compile(model.optimizer, model.loss, metrics=["accuracy"])
    model.fit(X[:64], Y[:64], verbose=0)
    return model


def everything(model):
    """Every variable and compiled setting of a model, to compare bit by bit."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    values = [np.array(keras.ops.convert_to_numpy(v)).tobytes() for v in variables]
    settings = [model.steps_per_execution, model.stop_training, model.train_function]
    return values, settings, getattr(model, "history", None)


def random_numbers():
    """The next number of every global source."""
    numbers = [random.random(), np.random.rand(), float(keras.random.uniform(()))]
    if TENSORFLOW:
        import tensorflow as tf

        numbers.append(float(tf.random.uniform(())))
    return numbers


@pytest.fixture
def deterministic():
    if not TENSORFLOW:
        yield
        return
    from tensorflow.python.framework import config

    config.enable_op_determinism()
    yield
    config.disable_op_determinism()


class Batches(keras.utils.PyDataset):
    """The digits in batches of 64; at batch `at` of the second pass it calls `fault`."""

    def __init__(self, at=None, fault=None):
        super().__init__()
        self.at, self.fault, self.seen = at, fault, 0

    def __len__(self):
        return 29

    def __getitem__(self, i):
        self.seen += 1
        if self.fault and self.seen > 29 and i == self.at:
            self.fault()
        return X[64 * i : 64 * i + 64], Y[64 * i : 64 * i + 64]


def fail():
    raise RuntimeError("the disk is gone")


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(0.2)


def to_its_end(model):
    result = lr_range_test(model, X, Y, num_steps=60, start_lr=1e-4, verbose=0)
    assert len(result.lrs) > 20  # It did train, at rates that move the weights.


def until_an_exception(model):
    with pytest.raises(Exception, match="the disk is gone"):
        lr_range_test(model, Batches(10, fail), num_steps=200, start_lr=1e-3, verbose=0)


def until_ctrl_c(model):
    # A process that a shell put into the background was told to ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            lr_range_test(model, Batches(10, press_ctrl_c), num_steps=200, start_lr=1e-3, verbose=0)
    finally:
        signal.signal(signal.SIGINT, before)


def story(optimizer, range_tests=(), trained=True):
    """A training, and what comes after it, with range tests in its middle or without."""
    keras.utils.set_random_seed(7)
    model = net(optimizer)
    if trained:
        model.fit(X[:320], Y[:320], verbose=0)
    for range_test in range_tests:
        was = everything(model)
        range_test(model)
        if trained:
            assert everything(model) == was
    numbers = random_numbers()
    # 20 steps; shuffled, but where `fit` has to build: some backends then draw one order more.
    history = model.fit(X[:640], Y[:640], shuffle=trained, verbose=0).history
    return everything(model)[0], history, numbers, random_numbers()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.AdamW(0.01),
    ],
    ids=["sgd with momentum", "adam", "adamw"],
)
def test_training_goes_on_bit_by_bit_as_without_range_tests_also_interrupted_ones(
    optimizer, deterministic
):
    tests = [to_its_end, until_an_exception, until_ctrl_c]
    assert story(optimizer(), tests) == story(optimizer())


not_torch = pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="no steps_per_execution; and Keras draws a random number more where `fit` has to build",
)


@not_torch
def test_an_optimizer_not_yet_used_is_as_new(deterministic):
    adam = keras.optimizers.Adam
    tested = story(adam(0.01), [to_its_end], trained=False)
    assert tested == story(adam(0.01), trained=False)


@not_torch
def test_a_model_not_yet_built_is_built_as_fit_would_have(deterministic):
    def weights(range_test):
        keras.utils.set_random_seed(7)
        model = keras.Sequential([keras.layers.Dense(8), keras.layers.Dropout(0.5)])
        model.add(keras.layers.Dense(10, activation="softmax"))
        model.compile("adam", "sparse_categorical_crossentropy")
        if range_test:
            lr_range_test(model, X, Y, num_steps=20, verbose=0)
        model.fit(X[:320], Y[:320], shuffle=False, verbose=0)
        return everything(model)[0]

    assert weights(True) == weights(False)


def test_keras_global_seed_generator_is_put_back_and_made_by_no_range_test(shared):
    keras.utils.set_random_seed(1)  # Without it, it is made at its first use.
    first = random_numbers()
    keras.utils.set_random_seed(1)

    def batches():
        while True:
            noise = keras.random.normal((32, 64)), random.random(), np.random.rand()
            yield X[:32] + np.array(keras.ops.convert_to_numpy(noise[0])), Y[:32]

    lr_range_test(shared, batches, num_steps=12, verbose=0)
    assert random_numbers() == first


def test_a_generator_that_is_read_ahead_draws_no_random_number_after_the_test(shared):
    random.seed(1)
    first = random.random()
    random.seed(1)

    def batches():
        while True:
            yield X[:32], Y[:32]
            time.sleep(0.05)  # The test is over before this one is drawn.
            random.random()

    lr_range_test(shared, batches, num_steps=12, verbose=0)
    time.sleep(0.2)
    assert random.random() == first


WITHOUT_THE_PRIVATE_NAME = """
import sys
import keras

# As if a later Keras had moved its private module.
del keras.src.backend.common.global_state
sys.modules["keras.src.backend.common.global_state"] = None

import warnings
import numpy as np
import clr

x, y = np.random.default_rng(0).normal(size=(64, 4)), np.zeros(64)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.01), "mse")
rates = clr.CyclicLR(0.001, 0.01, step_size=2)
model.fit(x, y, batch_size=16, callbacks=[rates], verbose=0)
assert len(rates.history["lr"]) == 4
before = model.get_weights()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = clr.lr_range_test(model, x, y, num_steps=20, start_lr=1e-6, end_lr=1e-3, verbose=0)
assert len(result.lrs) == 20
assert all((w == b).all() for w, b in zip(model.get_weights(), before, strict=True))
print([str(w.message) for w in caught if issubclass(w.category, UserWarning)])
"""


def test_without_keras_private_seed_generator_all_works_and_the_range_test_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PRIVATE_NAME],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (said,) = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert "seed generator" in said and "set_random_seed" in said


def test_mixed_precision_with_a_scaled_loss_is_put_back_too():
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = plain_net()
        model.fit(X[:64], Y[:64], verbose=0)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        was = everything(model)
        result = lr_range_test(model, X, Y, num_steps=60, start_lr=1e-4, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert everything(model) == was
    assert result.losses[-1] != pytest.approx(result.losses[0], rel=0.05)  # The rate acts.


CLASS_WEIGHT = {label: 1 + 0.3 * label for label in range(10)}


@needs_tensorflow
def test_losses_are_those_of_a_loop_written_by_hand_with_partial_batches_and_class_weights():
    import tensorflow as tf

    model = plain_net()
    model.compile(model.optimizer, model.loss, metrics=["accuracy"])
    result = lr_range_test(
        model,
        X,
        Y,
        batch_size=256,
        shuffle=False,
        start_lr=1e-5,
        end_lr=0.3,
        num_steps=40,
        class_weight=CLASS_WEIGHT,
        verbose=0,
    )
    weights = [tf.Variable(w) for w in model.get_weights()]
    slots = [tf.zeros_like(w) for w in weights]
    losses, accuracies = [], []
    for step, rate in enumerate(np.geomspace(1e-5, 0.3, 40)):
        at = slice(256 * (step % 8), 256 * (step % 8) + 256)  # Seven of 256, one of 5.
        importance = tf.constant([CLASS_WEIGHT[int(label)] for label in Y[at]])
        with tf.GradientTape() as tape:
            hidden = tf.tanh(X[at] @ weights[0] + weights[1])
            logits = hidden @ weights[2] + weights[3]
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(Y[at], logits)
            loss = tf.reduce_mean(importance * entropy) + 0.01 * tf.reduce_sum(weights[0] ** 2)
        for i, gradient in enumerate(tape.gradient(loss, weights)):
            slots[i] = 0.9 * slots[i] - np.float32(rate) * gradient
            weights[i].assign_add(slots[i])
        losses.append(float(loss))
        accuracies.append(np.mean(np.argmax(logits, axis=1) == Y[at]))
    np.testing.assert_allclose(result.losses, losses, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result.accuracies, accuracies, atol=1e-6)
    np.testing.assert_allclose(result.lrs, np.geomspace(1e-5, 0.3, 40), rtol=1e-12)
    assert result.stopped == "end_lr reached"
    assert result.rewound


def batches():
    for i in range(29):
        yield X[64 * i : 64 * i + 64], Y[64 * i : 64 * i + 64]


def endless():
    while True:
        yield from batches()


def tf_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(64)


def tf_data_of_unknown_length():
    return tf_data().filter(lambda x, y: True)


def data_loader():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(pairs, batch_size=64)


@pytest.mark.parametrize(
    ("make", "rewound"),
    [
        (Batches, True),
        (endless, False),
        (tf_data, True),
        (lambda: tf_data().repeat(), True),
        (tf_data_of_unknown_length, True),
        (data_loader, True),
        (lambda: batches, True),
        (lambda: tf_data, True),
        (lambda: lambda: [X, Y][0:0] or Batches(), True),
    ],
    ids=[
        "a PyDataset",
        "an endless generator",
        "tf.data",
        "endless tf.data",
        "tf.data of unknown length",
        "a torch DataLoader",
        "a function that makes generators",
        "a function that makes tf.data",
        "a function that makes a PyDataset",
    ],
)
def test_every_kind_of_data_gives_the_same_curve(shared, make, rewound):
    options = {"start_lr": 1e-4, "end_lr": 0.1, "num_steps": 40, "verbose": 0, "shuffle": False}
    arrays = lr_range_test(shared, X, Y, batch_size=64, **options)
    result = lr_range_test(shared, make(), **options)
    assert len(result.lrs) == 40
    assert result.lrs == arrays.lrs
    np.testing.assert_allclose(result.losses, arrays.losses, rtol=1e-5)
    assert result.rewound is rewound


def test_data_that_change_from_pass_to_pass_are_said_not_to_be_rewound(shared):
    pytest.importorskip("tensorflow")
    options = {"num_steps": 12, "verbose": 0}
    reshuffling = tf_data().shuffle(8, seed=1).prefetch(1)
    assert lr_range_test(shared, reshuffling, **options).rewound is False
    assert lr_range_test(shared, lambda: tf_data().shuffle(8), **options).rewound is True
    fixed = tf_data().shuffle(8, seed=1, reshuffle_each_iteration=False)
    assert lr_range_test(shared, fixed, **options).rewound is True
    shuffled = type("ShuffledBatches", (Batches,), {})()  # A name alone makes no shuffle.
    assert lr_range_test(shared, shuffled, **options).rewound is True
    assert "can't be rewound" in repr(lr_range_test(shared, endless(), **options))


def test_a_generator_that_ends_early_gives_the_curve_so_far_and_says_what_to_do(shared):
    with pytest.warns(UserWarning, match="ended after 29 of 100 steps.*num_steps=29"):
        result = lr_range_test(shared, batches(), num_steps=100, end_lr=1e-3, verbose=0)
    assert (len(result.lrs), result.stopped) == (29, "data ended")


@not_torch
def test_several_batches_in_an_execution_change_nothing_in_the_curve(shared):
    options = {"start_lr": 1e-4, "end_lr": 0.1, "num_steps": 12, "shuffle": False, "verbose": 0}
    model = keras.models.clone_model(shared)
    model.set_weights(shared.get_weights())
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), shared.loss, steps_per_execution=4)
    result = lr_range_test(model, X, Y, **options)
    assert model.steps_per_execution == 4
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), shared.loss)
    assert result.losses == lr_range_test(model, X, Y, **options).losses


def test_the_length_follows_epochs_and_the_rate_the_schedule(shared):
    def rates(**options):
        stop = {"stop_factor": 1e9, "end_lr": 0.1, "verbose": 0}
        return lr_range_test(shared, X, Y, batch_size=512, **stop, **options).lrs

    np.testing.assert_allclose(rates(epochs=3), np.geomspace(1e-7, 0.1, 12))
    linear = rates(num_steps=5, start_lr=0, schedule="linear")
    np.testing.assert_allclose(linear, [0, 0.025, 0.05, 0.075, 0.1])
    options = {"stop_factor": 1e9, "end_lr": 0.1, "verbose": 0}
    assert len(lr_range_test(shared, endless(), **options).lrs) == 200
    assert len(lr_range_test(shared, X, Y, batch_size=5, **options).lrs) == 360  # An epoch.


def test_validation_loss_is_recorded_every_k_steps_as_evaluate_gives_it(shared):
    options = {"start_lr": 1e-3, "end_lr": 0.1, "num_steps": 13, "shuffle": False, "verbose": 0}
    held_out = X[:300], Y[:300]
    result = lr_range_test(
        shared, X, Y, batch_size=64, validation_data=held_out, validation_every=4, **options
    )
    rates = np.geomspace(1e-3, 0.1, 13)
    assert result.lrs == pytest.approx(rates[[3, 7, 11]])
    model = keras.models.clone_model(shared)
    model.set_weights(shared.get_weights())
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), shared.loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    for slot, was in zip(model.optimizer.variables, shared.optimizer.variables, strict=True):
        slot.assign(np.array(keras.ops.convert_to_numpy(was)))
    expected = []
    for step, (x, y) in enumerate(batches()):
        if step == 12:
            break
        model.optimizer.learning_rate = rates[step]
        model.train_on_batch(x, y)
        if step in (3, 7, 11):
            expected.append(model.evaluate(*held_out, batch_size=64, verbose=0))
    found = np.transpose([result.losses, result.accuracies])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_validation_data_may_be_a_data_set_or_a_function(shared):
    options = {"num_steps": 4, "validation_every": 2, "verbose": 0}
    one = lr_range_test(shared, X, Y, validation_data=lambda: batches(), **options)
    two = lr_range_test(shared, X, Y, validation_data=Batches(), **options)
    assert one.losses == pytest.approx(two.losses)


def test_a_regression_is_tested_as_well():
    x, y = load_diabetes(return_X_y=True)
    model = plain_net("mse", units=1, features=10, last=None)
    result = lr_range_test(model, x, y / y.std(), epochs=12, start_lr=1e-6, verbose=0)
    assert result.accuracies is None
    base_lr, max_lr = result.suggest()
    assert 1e-6 < base_lr < max_lr < 1


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_divergence_ends_the_test_quietly_where_the_average_is_four_times_its_best(shared):
    result = lr_range_test(shared, X, Y, start_lr=1e-3, end_lr=1e4, num_steps=200, verbose=0)
    assert result.stopped == "loss diverged"
    best = np.minimum.accumulate(result.smoothed[9:])
    above = result.smoothed[9:] > 4 * best
    assert above[-1]
    assert not above[:-1].any()


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_the_test_quietly(shared, poison):
    x = X.copy()
    x[64 * 20] = poison  # In batch 20.
    options = {"batch_size": 64, "shuffle": False, "num_steps": 60, "verbose": 0}
    result = lr_range_test(shared, x, Y, **options)
    assert (len(result.losses), result.stopped) == (20, "loss not finite")
    assert np.isfinite(result.losses).all()
    none = lr_range_test(shared, x * np.nan, Y, **options)
    assert none.losses == []
    assert "none finite" in repr(none)
    with pytest.raises(ValueError, match=r"too short.*loss not finite.*data for NaN"):
        none.suggest()
    none.plot()


def test_the_average_is_the_bias_corrected_one():
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    weights = 0.98 ** np.arange(5)[::-1]
    expected = [np.average(values[: n + 1], weights=weights[-n - 1 :]) for n in range(len(values))]
    np.testing.assert_allclose(curve(values, beta=0.98).smoothed, expected)
    # A point of a validation curve stands for k steps.
    sparse = curve(values, beta=0.98, validation_every=3)
    np.testing.assert_allclose(sparse.smoothed, curve(values, beta=0.98**3).smoothed)


def curve(losses, lrs=None, accuracies=None, **config):
    """A range test that found just this."""
    lrs = np.geomspace(1e-6, 1, len(losses)) if lrs is None else lrs
    defaults = {"beta": 0.0, "validation_every": None, "schedule": "exponential", "num_steps": 100}
    return RangeTest(list(lrs), list(losses), accuracies, "end_lr reached", True, defaults | config)


LOG_RATES = np.linspace(-6, 1, 141)
S_SHAPED = 2.3 - 1.5 / (1 + np.exp(-4 * (LOG_RATES + 3))) + np.maximum(0, LOG_RATES + 1) ** 3


def test_suggestions_on_a_curve_that_falls_from_1e_4_steepest_at_1e_3_lowest_at_1e_1():
    result = curve(S_SHAPED, 10**LOG_RATES)
    lowest = LOG_RATES[S_SHAPED.argmin()]
    falls = -3 - math.log(9) / 4  # A logistic curve has made a tenth of its way there.
    for method, max_lr in [("steepest", -3), ("minimum", lowest - 1)]:
        found = result.suggest(method)
        assert math.log10(found.max_lr) == pytest.approx(max_lr, abs=0.06)
        base_lr = min(falls, math.log10(found.max_lr / 4))
        assert math.log10(found.base_lr) == pytest.approx(base_lr, abs=0.06)
    found = result.suggest("valley")
    assert -3.6 < math.log10(found.max_lr) < -2
    assert result.suggest() == result.suggest("edge")  # There are no trials.


def test_the_accuracy_reading_finds_where_it_begins_to_climb_and_where_it_slows():
    lrs = np.linspace(0, 0.02, 201)
    climbing = np.interp(lrs, [0, 0.005, 0.012, 0.016, 0.02], [0.1, 0.1, 0.6, 0.62, 0.2])
    result = curve([1.0] * 201, lrs, climbing.tolist(), schedule="linear")
    base_lr, max_lr = result.suggest("accuracy")
    assert base_lr == pytest.approx(0.0057, abs=2e-4)
    assert max_lr == pytest.approx(0.0119, abs=2e-4)


def test_a_suggestion_is_two_bounds_ready_for_cyclic_lr_and_names_its_source():
    result = curve(S_SHAPED, 10**LOG_RATES)
    base_lr, max_lr = found = result.suggest("minimum")
    assert isinstance(found, Suggestion)
    assert (found.method, found.base_lr, found.max_lr) == ("minimum", base_lr, max_lr)
    assert "fastai" in found.source
    assert "section 3.3" in found.source
    for arguments in (found, found[:2]):
        assert CyclicLR(*arguments, step_size=100).policy.max_lr == max_lr


NOISE = np.random.default_rng(0).normal(2.3, 0.1, (20, 100))


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ([curve(losses, beta=0.98) for losses in NOISE], "never falls.*flat, raise end_lr"),
        ([curve([2.3] * 100)], "never falls"),
        ([curve(np.linspace(2.3, 9, 100))], "never falls.*only gets worse, lower start_lr"),
        ([curve(np.linspace(2.3, 1, 15))], "too short to read: 15 points.*Raise num_steps"),
        ([curve([])], "too short to read: 0 points"),
    ],
    ids=["noise", "constant", "rising", "short", "empty"],
)
def test_a_curve_without_an_answer_says_so_and_what_to_try(curves, message):
    for result in curves:
        for method in ("steepest", "valley", "minimum"):
            with pytest.raises(ValueError, match=message):
                result.suggest(method)


def test_one_entry_in_the_table_is_a_reading_that_is_suggested(monkeypatch):
    def middle(curve):
        return curve.lrs[0], curve.lrs[len(curve.lrs) // 2]

    monkeypatch.setitem(reading.READINGS, "middle", reading.Reading(middle, "a test"))
    result = curve(S_SHAPED, 10**LOG_RATES)
    found = result.suggest("middle")
    assert (found.method, found.source) == ("middle", "a test")
    assert found[:] == (10 ** LOG_RATES[0], 10 ** LOG_RATES[70])
    assert result.suggestions()["middle"] == found
    # It has an answer where the others have none.
    assert list(curve([2.3] * 50).suggestions()) == ["middle"]


def test_the_accuracy_reading_needs_accuracies():
    with pytest.raises(ValueError, match=r"method='accuracy'.*metrics=\['accuracy'\]"):
        curve(S_SHAPED).suggest("accuracy")
    with pytest.raises(ValueError, match="accuracy never climbs"):
        curve(S_SHAPED, accuracies=[0.1] * 141).suggest("accuracy")


SCHEDULE = keras.optimizers.schedules.CosineDecay(0.1, 100)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "net"}, TypeError, "`model` must be a keras.Model. Received: model='net'"),
        ({"model": keras.Sequential()}, ValueError, "must be compiled.*Received: 'sequential"),
        ({"x": None}, ValueError, "`x` must be the training data.*x=None"),
        ({"x": (b for b in ())}, ValueError, "`x` must hold at least one batch"),
        ({"start_lr": "low"}, TypeError, "`start_lr` must be a number.*'low'"),
        ({"start_lr": -1.0}, ValueError, "`start_lr`.*start_lr=-1.0"),
        ({"start_lr": 0.0}, ValueError, "above 0 for an exponential.*start_lr=0.0"),
        ({"end_lr": math.nan}, ValueError, "`end_lr` must be finite.*nan"),
        ({"end_lr": 1e-11}, ValueError, "`end_lr` must be above `start_lr`.*end_lr=1e-11"),
        ({"num_steps": 1}, ValueError, "`num_steps`.*at least 2.*num_steps=1"),
        ({"num_steps": 2.5}, ValueError, "`num_steps` must be a whole number.*2.5"),
        ({"epochs": 0}, ValueError, "`epochs`.*epochs=0"),
        ({"epochs": 2, "num_steps": 9}, ValueError, "pass one. Received: num_steps=9, epochs=2"),
        ({"schedule": "cosine"}, ValueError, "`schedule` must be one of exponential, linear"),
        ({"beta": 1.0}, ValueError, r"`beta` must be in \[0, 1\). Received: beta=1.0"),
        ({"stop_factor": 1}, ValueError, "`stop_factor` must be above 1"),
        ({"batch_size": 0}, ValueError, "`batch_size`.*batch_size=0"),
        ({"metric": 3}, TypeError, "`metric` must be a metric's name.*metric=3"),
        ({"metric": "f1"}, ValueError, "`metric` must be one of accuracy, loss.*metric='f1'"),
        ({"verbose": 5}, ValueError, "`verbose` must be 0, 1 or 2. Received: verbose=5"),
        ({"validation_data": (X, Y)}, ValueError, "go together.*validation_every=None"),
        ({"validation_every": 2}, ValueError, "go together.*NoneType"),
        ({"validation_every": 0, "validation_data": (X, Y)}, ValueError, "validation_every=0"),
        (
            {"validation_every": 2, "validation_data": (b for b in ())},
            ValueError,
            "`validation_data`.*more than once.*generator",
        ),
    ],
)
def test_a_wrong_argument_is_named_echoed_and_put_right(shared, options, error, message):
    arguments = {"model": shared, "x": X, "y": Y, "verbose": 0} | options
    with pytest.raises(error, match=message):
        lr_range_test(**arguments)


def test_epochs_of_unknown_length_are_refused(shared):
    with pytest.raises(ValueError, match=r"`epochs`.*num_steps instead.*epochs=2"):
        lr_range_test(shared, endless(), epochs=2, verbose=0)


def test_an_optimizer_on_a_schedule_is_refused_and_told_how():
    model = plain_net()
    model.compile(keras.optimizers.SGD(SCHEDULE), model.loss)
    with pytest.raises(ValueError, match=r"fixed learning_rate.*schedule.*compile anew"):
        lr_range_test(model, X, Y)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"`method` must be one of steepest, valley.*'deepest'"):
        curve(S_SHAPED).suggest("deepest")


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_where_nobody_watches_a_line_at_the_end_is_all(shared, capsys, verbose):
    lr_range_test(shared, X, Y, num_steps=20, stop_factor=None, verbose=verbose)
    said = r"Range test: 20 of 20 steps \(end_lr reached\), \d trials, 0:0\d:\d\d\n" * bool(verbose)
    assert re.fullmatch(said, capsys.readouterr().out)


def test_a_result_survives_json_and_half_a_file_is_never_left(shared, tmp_path, monkeypatch):
    result = lr_range_test(shared, X, Y, num_steps=30, verbose=0)
    path = tmp_path / "curve.json"
    assert result.to_json(path) == result.to_json() == path.read_text()
    again = RangeTest.from_json(path)
    assert again == result
    assert again.config["num_steps"] == 30
    assert again.config["optimizer"] == "SGD"
    monkeypatch.setattr(os, "replace", lambda *paths: fail())
    with pytest.raises(RuntimeError, match="disk"):
        curve(S_SHAPED).to_json(path)
    assert [p.name for p in tmp_path.iterdir()] == ["curve.json"]
    assert RangeTest.from_json(path) == result


def test_a_result_is_saved_and_loaded_as_a_run_is(tmp_path):
    path = tmp_path / "curve.json"
    result = curve(S_SHAPED)
    result.save(path)
    assert path.read_text() == result.to_json()
    assert RangeTest.load(path) == RangeTest.from_json(path) == result
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"curve\.json is not a range test"):
        RangeTest.load(path)


def test_a_damaged_or_foreign_file_is_a_clear_error(tmp_path):
    path = tmp_path / "curve.json"
    good = json.loads(curve(S_SHAPED).to_json())
    damaged = [
        json.dumps(good)[:-50],
        "[]",
        json.dumps(good | {"format": "clr-run/1"}),
        json.dumps({k: v for k, v in good.items() if k != "losses"}),
        json.dumps(good | {"losses": good["losses"][1:]}),
        json.dumps(good | {"losses": ["high"] * 141}),
        json.dumps(good | {"losses": [None] * 141}),
        json.dumps(good | {"config": {}}),
        json.dumps(good | {"config": None}),
    ]
    for text in damaged:
        path.write_text(text)
        with pytest.raises(ValueError, match=r"curve\.json is not a range test"):
            RangeTest.from_json(path)
    with pytest.raises(FileNotFoundError):
        RangeTest.from_json(tmp_path / "missing.json")


# The judge: fastai's learning rate finder, its averaging, its stop and its three suggestions
# computed as its callback/schedule.py does, over networks that Keras has no part in.


def fastai_curve(losses_at, rates):
    """Averages losses as fastai's recorder, with its stop; `losses_at` trains a step at a rate."""
    average, best, curve = 0.0, math.inf, []
    for step, rate in enumerate(rates, start=1):
        average = 0.98 * average + 0.02 * losses_at(step - 1, rate)
        smooth = average / (1 - 0.98**step)
        if math.isnan(smooth):
            break
        curve.append(smooth)
        best = min(best, smooth)
        if smooth > 4 * best:
            break
    return np.array(rates[: len(curve)]), np.array(curve)


def fastai_suggestions(lrs, losses, num_it):
    lrs, losses = lrs[num_it // 10 : -5], losses[num_it // 10 : -5]
    n = len(losses)
    lengths = [1] * n
    end = start = 0
    for i in range(1, n):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end = i
                start = end - lengths[end]
    third = (end - start) / 3
    # `steep` is asked from 1e-3 on. Below, nothing falls, and still it finds the diabetes steepest:
    # its average of few batches makes large steps.
    lrs_late, late = lrs[lrs > 1e-3], losses[lrs > 1e-3]
    slopes = (late[1:] - late[:-1]) / (np.log(lrs_late[1:]) - np.log(lrs_late[:-1]))
    return {
        "valley": lrs[start + int(third) + int(third / 2)],
        "minimum": lrs[losses.argmin()] / 10,
        "steepest": lrs_late[slopes.argmin()],
    }


BATCH = 64


def problem(name):
    load = {"digits": digits, "diabetes": load_diabetes, "breast cancer": load_breast_cancer}[name]
    x, y = digits() if load is digits else load(return_X_y=True)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
        targets = y[:, None]
    else:
        targets = np.eye(int(y.max()) + 1)[y.astype(int)]
    return x.astype("float32"), targets.astype("float32"), name == "diabetes"


def numpy_network(weights, x, targets, regression):
    """Returns a function that takes one step of SGD at a rate and returns the batch's loss."""
    w1, b1, w2, b2 = (w.astype("float64") for w in weights)

    def step(number, rate):
        at = np.arange(BATCH * number, BATCH * number + BATCH) % len(x)
        hidden = np.tanh(x[at] @ w1 + b1)
        out = hidden @ w2 + b2
        if regression:
            error = out - targets[at]
            loss, error = np.mean(error**2), 2 * error / error.size
        else:
            shifted = out - out.max(axis=1, keepdims=True)
            log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            loss = -np.mean((targets[at] * log).sum(axis=1))
            error = (np.exp(log) - targets[at]) / BATCH
        back = error @ w2.T * (1 - hidden**2)
        for w, gradient in [
            (w2, hidden.T @ error),
            (b2, error.sum(axis=0)),
            (w1, x[at].T @ back),
            (b1, back.sum(axis=0)),
        ]:
            w -= rate * gradient
        return float(loss)

    return step


def torch_network(weights, x, targets, regression):
    """The same in PyTorch, with its own loss, gradients and optimizer."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 16), torch.nn.Tanh(), torch.nn.Linear(16, targets.shape[1])
    )
    with torch.no_grad():
        for parameter, w in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(w.T))
    loss_of = torch.nn.MSELoss() if regression else torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)

    def step(number, rate):
        at = np.arange(BATCH * number, BATCH * number + BATCH) % len(x)
        sgd.param_groups[0]["lr"] = rate
        sgd.zero_grad()
        loss = loss_of(net(torch.tensor(x[at])), torch.tensor(targets[at]))
        loss.backward()
        sgd.step()
        return float(loss.detach())

    return step


@pytest.mark.parametrize("judge", [numpy_network, torch_network])
@pytest.mark.parametrize("name", ["digits", "diabetes", "breast cancer"])
def test_curve_and_bounds_agree_with_fastai_on_a_network_without_keras(name, judge):
    x, targets, regression = problem(name)
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(targets.shape[1], activation=None if regression else "softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(), "mse" if regression else "categorical_crossentropy")
    step = judge(model.get_weights(), x, targets, regression)
    rates = np.geomspace(1e-6, 10, 400)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        lrs, smooth = fastai_curve(step, rates)

    def in_order():
        for number in range(400):
            at = np.arange(BATCH * number, BATCH * number + BATCH) % len(x)
            yield x[at], targets[at]

    result = lr_range_test(model, in_order, start_lr=1e-6, num_steps=400, verbose=0)
    calm = np.searchsorted(rates, 1e-2)  # Beyond, rounding is amplified step by step.
    np.testing.assert_allclose(result.smoothed[:calm], smooth[:calm], rtol=1e-3)
    for method, expected in fastai_suggestions(lrs, smooth, 400).items():
        found = result.suggest(method)
        assert abs(math.log10(found.max_lr / expected)) < 0.7, method
        assert found.base_lr < found.max_lr
        assert method in SOURCES

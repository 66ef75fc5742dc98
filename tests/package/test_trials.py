"""The short trainings after a range test: their batches, their rates, and what is read."""

import math
import warnings

import keras
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from clr.range_test import RangeTest, lr_range_test
from clr.range_test.trials import Split, climb

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")


def net(features=64, outputs=10, loss="sparse_categorical_crossentropy", optimizer="sgd"):
    keras.utils.set_random_seed(0)
    last = "softmax" if outputs > 1 else None
    model = keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(outputs, last),
        ]
    )
    model.compile(optimizer, loss)
    return model


def range_test(model, x=X, y=Y, **options):
    return lr_range_test(model, x, y, verbose=0, **options)


# --- which rates are tried ------------------------------------------------------------------------


def tried(loss_of, ceiling=math.inf, most=6):
    """The places of the rates that are tried, in half decades from the first."""
    losses = climb(lambda rate: loss_of(round(2 * math.log10(rate))), 1.0, ceiling, most)
    return [round(2 * math.log10(rate)) for rate in losses]


@pytest.mark.parametrize(
    ("best_at", "order"),
    [(0, [0, 1, -1]), (1, [0, 1, 2]), (3, [0, 1, 2, 3, 4]), (-2, [0, 1, -1, -2, -3])],
)
def test_the_trials_walk_towards_the_lowest_loss_and_one_step_beyond(best_at, order):
    assert tried(lambda place: 1 + abs(place - best_at)) == order


def test_the_trials_go_up_to_the_ceiling_at_most():
    assert tried(lambda place: -place, ceiling=10**0.9) == [0, 1]
    assert tried(lambda place: abs(place + 1), ceiling=0.01) == [0, -1, -2]


def test_the_trials_go_down_from_a_rate_that_breaks_training():
    assert tried(lambda place: math.inf if place > -3 else -place) == [0, -1, -2, -3, -4]


def test_the_trials_are_no_more_than_was_said():
    assert tried(lambda place: -place, most=2) == [0, 1]
    assert tried(lambda place: -place) == [0, 1, 2, 3, 4, 5]
    assert tried(lambda place: math.inf, most=3) == [0, -1, -2]


# --- what they train on, and what they are judged by ----------------------------------------------


def test_no_example_is_both_trained_on_and_held_back():
    x = np.arange(100)
    batches = Split(x, None, None, batch_size=8, steps=30)
    held = np.concatenate([batches.batch(place)[0] for place in batches.held])
    trained = np.concatenate([batches.batch(place)[0] for place in batches.trained])
    assert len(held) == len(set(held)) == 20
    assert not set(held) & set(trained)
    assert set(held) | set(trained) == set(x)
    assert len(trained) == 30 * 8
    passing = batches.held_back()
    assert [len(passing[i][0]) for i in range(len(passing))] == [8, 8, 4]


def test_examples_are_held_back_from_all_classes_of_sorted_data():
    batches = Split(X[np.argsort(Y)], np.sort(Y), None, batch_size=32, steps=60)
    assert {int(y) for place in batches.held for y in batches.batch(place)[1]} == set(range(10))


def test_structures_and_weights_are_cut_alike():
    x, y, weight = {"a": np.arange(50), "b": np.arange(50) * 2}, np.arange(50) * 3, np.arange(50)
    passing = Split(x, y, weight, batch_size=4, steps=10).to_train_on()
    for x_, y_, weight_ in map(passing.__getitem__, range(len(passing))):
        np.testing.assert_array_equal(x_["b"], 2 * x_["a"])
        np.testing.assert_array_equal(y_, 3 * x_["a"])
        np.testing.assert_array_equal(weight_, x_["a"])


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 20

    def __getitem__(self, i):
        return X[i * 32 : (i + 1) * 32], Y[i * 32 : (i + 1) * 32]


def test_batches_of_a_data_set_are_held_back_whole():
    batches = Split(Sequence(), None, None, batch_size=32, steps=30)
    assert len(batches.held) == 4 and len(batches.trained) == 30
    assert not set(batches.held) & set(batches.trained)
    batches = Split(iter([Sequence()[i] for i in range(20)]), None, None, 32, steps=30)
    assert batches.held == [0, 1, 2, 3]
    assert set(batches.trained) == set(range(4, 20))


# --- what comes of it -----------------------------------------------------------------------------


def test_the_suggestion_comes_from_the_trials():
    result = range_test(net())
    rates, losses = zip(*result.trials, strict=True)
    assert rates[0] == 0 and losses[0] == pytest.approx(2.3, abs=0.2)
    assert rates[1] == result.suggest("edge").max_lr
    assert min(losses[1:]) < 1
    found = result.suggest()
    assert found.method == result.default_method == "trials"
    assert found == result.suggest("trials")
    assert found.max_lr in rates and found.base_lr == pytest.approx(found.max_lr / 10)


def test_the_rate_of_the_best_trial_is_taken():
    result = range_test(net(), num_steps=40)
    result.trials = [(0.0, 2.0), (0.1, 1.0), (0.3, 0.9), (1.0, None)]
    with warnings.catch_warnings(action="error"):
        assert tuple(result.suggest()) == (0.03, 0.3)


def test_the_best_trial_at_the_lowest_rate_is_warned_of():
    result = range_test(net(), num_steps=40)
    result.trials = [(0.0, 2.0), (0.1, 1.0), (0.03, 0.5)]
    with pytest.warns(UserWarning, match="a lower rate than 0.03"):
        result.suggest()


def test_a_rate_far_below_the_default_is_blamed_on_the_scale_of_the_inputs():
    result = range_test(net(), num_steps=40)
    result.trials = [(0.0, 2.0), (5e-5, 1.0), (1e-5, 1.5)]
    with pytest.warns(UserWarning, match="may not be scaled: bring them to a mean of 0"):
        result.suggest()


def test_trials_that_learn_nothing_leave_it_to_the_curve_with_a_warning():
    result = range_test(net())
    result.trials = [(0.0, 2.3), (0.1, 2.28), (0.3, None)]
    with pytest.raises(ValueError, match="None of the trials, between rates"):
        result.suggest("trials")
    with pytest.warns(UserWarning, match="Does it learn at any rate"):
        found = result.suggest()
    assert found.method == "edge" and tuple(found) == tuple(result.suggest("edge"))


def test_a_small_set_that_is_overfitted_gets_a_lower_rate_than_the_curve_says():
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(axis=0), (y - y.mean()) / y.std()
    model = net(10, 1, "mse", "adam")
    result = range_test(model, x[:221], y[:221])
    assert result.suggest().max_lr < result.suggest("edge").max_lr


def test_there_are_none_if_none_are_wanted_or_can_be():
    assert range_test(net(), trials=0, num_steps=40).trials is None
    assert range_test(net(), num_steps=20).trials is None  # Six steps a trial.
    assert range_test(net(), X[:4], Y[:4], num_steps=40, batch_size=1).trials is None
    endless = (batch for _ in range(100) for batch in [(X[:32], Y[:32])])
    result = lr_range_test(net(), endless, num_steps=40, verbose=0)
    assert result.trials is None
    with pytest.raises(ValueError, match="There were no trials"):
        result.suggest("trials")


@pytest.mark.parametrize("trials", [-1, 1.5, math.nan])
def test_a_bad_number_of_trials_is_named(trials):
    with pytest.raises(ValueError, match=f"`trials` must be .* Received: trials={trials!r}"):
        range_test(net(), trials=trials)


def test_the_trials_leave_no_trace():
    model = net(optimizer="adam")
    model.optimizer.build(model.trainable_variables)

    def state():
        values = [*model.variables, *model.optimizer.variables]
        return [np.array(keras.ops.convert_to_numpy(value)) for value in values]

    before = state()
    assert range_test(model, num_steps=60).trials
    for one, other in zip(before, state(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_trial_spans_its_updates_under_gradient_accumulation():
    def trials(batches):
        sgd = keras.optimizers.SGD(gradient_accumulation_steps=batches)
        return range_test(net(optimizer=sgd)).trials

    assert len(trials(4)) > 2
    assert trials(32) is None  # Three updates a trial.


def test_a_function_that_makes_data_is_asked_again():
    def make():
        for i in range(20):
            yield X[i * 32 : (i + 1) * 32], Y[i * 32 : (i + 1) * 32]

    result = lr_range_test(net(), make, num_steps=60, verbose=0)
    assert len(result.trials) > 2


def test_the_trials_are_kept_in_the_file(tmp_path):
    result = range_test(net(), num_steps=60)
    result.trials[-1] = (result.trials[-1][0], None)
    result.save(tmp_path / "test.json")
    again = RangeTest.load(tmp_path / "test.json")
    assert [tuple(one) for one in again.trials] == result.trials
    with warnings.catch_warnings(action="ignore"):
        assert again.suggest() == result.suggest()


# --- bad input ------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_from_the_beginning_gives_no_bounds():
    result = range_test(net(outputs=1, loss="mse"), X, np.full(len(X), np.nan), num_steps=60)
    assert result.trials is None and result.stopped == "loss not finite"
    with pytest.raises(ValueError, match="look at the data for NaN"):
        result.suggest()


def test_a_loss_that_nothing_changes_gives_no_bounds():
    model = net(outputs=1, loss=lambda y, said: 0 * said)
    result = range_test(model, X, Y.astype("float32"), num_steps=60)
    assert result.trials is None
    with pytest.raises(ValueError, match="never falls beyond its own noise"):
        result.suggest()


def test_five_batches_are_passed_through_again_and_one_of_them_is_held_back():
    result = range_test(net(), X[:160], Y[:160])
    assert len(result.lrs) > 100 and len(result.trials) > 2
    batches = Split(X[:160], Y[:160], None, batch_size=32, steps=100)
    assert len(batches.held) == 1


def test_huge_and_negative_losses_are_read_like_others():
    y = (X @ np.linspace(-1, 1, 64)).astype("float32")
    for loss in (
        "mse",
        lambda y, said: 1e12 * (y - said) ** 2,
        lambda y, said: (y - said) ** 2 - 9,
    ):
        model = net(outputs=1, loss=loss, optimizer="adam")
        result = range_test(model, X, y)
        assert 1e-5 < result.suggest().max_lr < 1

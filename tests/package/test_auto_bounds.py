"""`Experiment(max_lr="auto")`: a range test finds the bounds, and the record shows from where."""

import json
import random
import warnings
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
from small_data import SMALL, subset

from clr import Experiment, Run, build, datasets, lr_range_test, train
from clr.range_test import RangeTest, Suggestion
from clr.training import METHODS, PROFILES, Checkpoints, FoundBounds, bounds, fitting

TINY = replace(SMALL, min_lr="auto", max_lr="auto", augment=False, batch_size=16, jit_compile=False)
CONFIG = {
    **{"start_lr": 1e-10, "end_lr": 10.0, "num_steps": 300, "epochs": None, "beta": 0.98},
    **{"schedule": "exponential", "stop_factor": 4.0, "validation_every": None},
    **{"batch_size": 16, "metric": None, "model": "canned", "optimizer": "SGD"},
}


def canned(losses):
    """A range test with these losses at its 300 rates."""
    lrs = np.geomspace(1e-10, 10, 300).tolist()
    return RangeTest(lrs, losses.tolist(), None, "end_lr reached", True, dict(CONFIG))


x = np.linspace(-10, 1, 300)
FALLS_AND_RISES = canned(2.3 - 2 / (1 + np.exp(-4 * (x + 2))) + 4 / (1 + np.exp(-8 * x)))
FLAT = canned(np.full(300, 2.3))


@pytest.fixture(autouse=True, scope="module")
def tiny_network():
    """Trains a network that is small and has all that can differ: dropout, batch normalisation."""

    def network(shape, classes, width, dropout, bn_momentum):
        layers = [
            keras.layers.Conv2D(4, 3, strides=4, activation="relu"),
            keras.layers.BatchNormalization(momentum=bn_momentum),
            keras.layers.Flatten(),
            keras.layers.Dropout(dropout, seed=random.randint(1, 10**9)),  # As MiniGoogLeNet.
            keras.layers.Dense(classes, activation="softmax"),
        ]
        return keras.Sequential([keras.Input(shape), *layers])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "MiniGoogLeNet", network)
        yield


@pytest.fixture
def answers(monkeypatch):
    """Has the range test before the training give a canned answer, and counts its calls."""

    def answer_with(result):
        calls = []
        monkeypatch.setattr(bounds, "lr_range_test", lambda *_, **__: calls.append(1) or result)
        return calls

    return answer_with


# Experiment


def test_auto_finds_both_bounds_unless_one_is_given():
    assert Experiment(max_lr="auto") == Experiment(min_lr="auto", max_lr="auto")
    assert Experiment(max_lr="auto", min_lr=1e-3).min_lr == 1e-3
    assert Experiment().min_lr == 1e-7 and Experiment(max_lr=0.1).min_lr == 1e-7


def test_an_experiment_with_auto_is_a_value_like_any_other():
    e = Experiment(max_lr="auto")
    assert hash(e) == hash(Experiment(max_lr="auto")) and e != Experiment()
    assert Experiment(**json.loads(json.dumps(asdict(e)))) == e
    assert e.max_lr == e.min_lr == "auto"


def test_a_profiles_lower_bound_does_not_count_as_given():
    e = Experiment.from_profile("quick", max_lr="auto")
    assert e == Experiment(**{**PROFILES["quick"], "max_lr": "auto", "min_lr": "auto"})
    assert Experiment.from_profile("quick", max_lr="auto", min_lr=0.01).min_lr == 0.01
    assert Experiment.from_profile("quick", max_lr=0.05).min_lr == PROFILES["quick"]["min_lr"]


@pytest.mark.parametrize("value", ["automatic", "", "AUTO", float("nan"), -1, 0, True, [1], None])
def test_a_bad_upper_bound_is_named_with_its_value(value):
    with pytest.raises((TypeError, ValueError)) as caught:
        Experiment(max_lr=value)
    assert "`max_lr`" in str(caught.value) and f"max_lr={value!r}" in str(caught.value)


@pytest.mark.parametrize("value", ["automatic", float("nan"), -1])
def test_a_bad_lower_bound_is_named_beside_auto(value):
    with pytest.raises((TypeError, ValueError)) as caught:
        Experiment(max_lr="auto", min_lr=value)
    assert "`min_lr`" in str(caught.value) and f"min_lr={value!r}" in str(caught.value)


def test_the_lower_bound_alone_can_not_be_found():
    with pytest.raises(ValueError, match=r"`min_lr`.*together.*min_lr='auto', max_lr=0\.1"):
        Experiment(min_lr="auto", max_lr=0.1)


def test_there_are_no_rates_before_the_test():
    for ask in (TINY.learning_rate, TINY.rates, lambda _: build(TINY, subset(32, 10))):
        with pytest.raises(ValueError, match=r"`max_lr` must be a number.*max_lr='auto'"):
            ask(3)


# train


@pytest.mark.parametrize("method", ["triangular", "constant"])
def test_training_has_the_rates_of_the_bounds_that_were_found(method, answers, capsys):
    answers(FALLS_AND_RISES)
    run = train(replace(TINY, clr_method=method), subset(32, 10))
    base_lr, max_lr = FALLS_AND_RISES.suggest()
    assert (run.bounds.min_lr, run.bounds.max_lr) == (base_lr, max_lr)
    numbers = replace(TINY, clr_method=method, min_lr=base_lr, max_lr=max_lr)
    np.testing.assert_array_equal(run.rates(), numbers.rates(2))
    np.testing.assert_allclose(run.history["learning_rate"], run.rates()[1::2], rtol=1e-6)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"Range test: {run.bounds.in_words(run.experiment)}"
    assert f"{first}. Time:" in run.provenance()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_the_bounds_that_it_has(method):
    base_lr, max_lr = FALLS_AND_RISES.suggest()
    found = FoundBounds(base_lr, max_lr, "edge", None, FALLS_AND_RISES)
    asked = replace(TINY, clr_method=method, gamma=1.0)
    numbers = replace(asked, min_lr=base_lr, max_lr=max_lr)
    assert found.put_into(asked) == numbers
    np.testing.assert_allclose(numbers.rates(50).max(), max_lr, rtol=1e-6)
    lower_matters = (numbers.rates(2) != replace(numbers, min_lr=base_lr / 2).rates(2)).any()
    lower = f"base_lr={base_lr:.3g}, " if lower_matters else ""
    assert found.in_words(asked) == f"300 steps; {lower}max_lr={max_lr:.3g}"


@pytest.mark.parametrize("method, augment", [("triangular", True), ("cosine", False)])
def test_the_test_is_the_runs_own_and_leaves_no_trace(method, augment, tmp_path):
    data, e = subset(128, 10), replace(TINY, clr_method=method, augment=augment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the suggestion, whichever reading is the default.
        run = train(e, data, verbose=False)

    numbers = replace(e, min_lr=run.bounds.min_lr, max_lr=run.bounds.max_lr)
    given = train(numbers, data, verbose=False)
    assert given.bounds is None
    np.testing.assert_allclose(run.history["loss"], given.history["loss"], rtol=1e-4)
    for one, other in zip(run.model.get_weights(), given.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)

    keras.utils.set_random_seed(e.seed)
    model = build(replace(numbers, clr_method="constant"), data)
    batches = datasets.Batches(data.x_train, data.y_train, e.batch_size, e.seed)
    by_hand = lr_range_test(model, batches, shuffle=False, trials=0, verbose=0)
    result = run.bounds.range_test
    assert result.lrs == by_hand.lrs and result.stopped == by_hand.stopped
    np.testing.assert_allclose(result.losses[:150], by_hand.losses[:150], rtol=1e-3)
    assert len(result.trials) > 1 and max(lr for lr, _ in result.trials) >= run.bounds.max_lr
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run
    assert result.config["optimizer"] == "SGD" and result.config["batch_size"] == 16


def test_a_given_lower_bound_stays(answers):
    answers(FALLS_AND_RISES)
    run = train(replace(TINY, min_lr=1e-5), subset(32, 10), verbose=False)
    assert run.bounds.min_lr == run.rates()[0] == 1e-5
    assert run.bounds.max_lr == FALLS_AND_RISES.suggest().max_lr


def test_a_given_lower_bound_above_what_was_found_is_refused(answers, capsys):
    answers(FALLS_AND_RISES)
    with pytest.raises(ValueError, match=r"`min_lr`.*found.*number for max_lr.*min_lr=5\.0"):
        train(replace(TINY, min_lr=5.0), subset(32, 10))
    assert capsys.readouterr().out == ""


def test_without_an_answer_nothing_is_trained(answers, capsys, tmp_path):
    answers(FLAT)
    with pytest.raises(ValueError, match=r"Give a number for max_lr.*max_lr='auto'.*test said: "):
        train(TINY, subset(32, 10), run_dir=tmp_path)
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []


def test_a_suggestions_warning_is_given_and_kept(answers, monkeypatch):
    def doubtful(self):
        warnings.warn("raise num_steps", stacklevel=2)
        return Suggestion(1e-3, 1e-2, "edge", "here", "raise num_steps")

    answers(FALLS_AND_RISES)
    monkeypatch.setattr(RangeTest, "suggest", doubtful)
    with pytest.warns(UserWarning, match="raise num_steps"):
        run = train(TINY, subset(32, 10), verbose=False)
    assert (run.bounds.method, run.bounds.warning) == ("edge", "raise num_steps")


# Checkpoints


def test_a_resumed_training_does_not_test_again(answers, tmp_path, capsys):
    data, calls = subset(32, 10), answers(FALLS_AND_RISES)
    whole = train(replace(TINY, num_epochs=3), data, run_dir=tmp_path)
    (tmp_path / "checkpoint-00003.npz").write_bytes(b"damaged")
    capsys.readouterr()
    with pytest.warns(UserWarning, match="passed over"):
        run = train(replace(TINY, num_epochs=3), data, run_dir=tmp_path)
    assert len(calls) == 1 and run.bounds == whole.bounds
    np.testing.assert_allclose(run.history["loss"], whole.history["loss"], rtol=1e-4)
    assert "Range test, from the checkpoint: 300 steps; base_lr=" in capsys.readouterr().out
    assert train(replace(TINY, num_epochs=3), data, False, tmp_path).bounds == whole.bounds


def test_a_folder_of_another_experiment_is_refused_before_the_test(answers, tmp_path):
    data, calls = subset(32, 10), answers(FALLS_AND_RISES)
    numbers = replace(TINY, min_lr=1e-3, max_lr=0.1)
    train(numbers, data, False, tmp_path)
    with pytest.raises(ValueError, match=r"`run_dir`.*same experiment"):
        train(TINY, data, False, tmp_path)
    assert not calls


def test_checkpoints_of_numbers_hold_no_bounds(tmp_path):
    numbers = replace(TINY, min_lr=1e-3, max_lr=0.1, num_epochs=1)
    train(numbers, subset(32, 10), False, tmp_path)
    with np.load(tmp_path / "checkpoint-00001.npz") as stored:
        assert "bounds" not in json.loads(str(stored["said"]))
    assert Checkpoints(tmp_path, numbers).bounds_before() is None


# Run


@pytest.fixture(scope="module")
def run(tiny_network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "lr_range_test", lambda *_, **__: FALLS_AND_RISES)
        return train(TINY, subset(32, 10), verbose=False)


def test_a_run_with_found_bounds_survives_its_file(run, tmp_path):
    run.save(tmp_path / "run.json")
    loaded = Run.load(tmp_path / "run.json")
    assert loaded == run and isinstance(loaded.bounds, FoundBounds)
    assert loaded.experiment == TINY
    assert loaded.bounds.range_test.suggest() == FALLS_AND_RISES.suggest()
    np.testing.assert_array_equal(loaded.rates(), run.rates())
    stored = json.loads((tmp_path / "run.json").read_text())["bounds"]
    assert stored["range_test"] == json.loads(FALLS_AND_RISES.to_json())


def test_a_run_with_numbers_is_written_without_bounds(run, tmp_path):
    numbers = run.bounds.put_into(run.experiment)
    replace(run, experiment=numbers, bounds=None).save(tmp_path / "run.json")
    assert "bounds" not in json.loads((tmp_path / "run.json").read_text())
    assert Run.load(tmp_path / "run.json").experiment == numbers


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda v: v.pop("bounds"), id="no bounds"),
        pytest.param(lambda v: v.update(bounds=None), id="null"),
        pytest.param(lambda v: v["experiment"].update(min_lr=0.1, max_lr=0.2), id="numbers"),
        pytest.param(lambda v: v["experiment"].update(min_lr=1e-9), id="another lower bound"),
        pytest.param(lambda v: v["bounds"].update(max_lr="auto"), id="no number"),
        pytest.param(lambda v: v["bounds"].update(max_lr=1e-12), id="below the lower"),
        pytest.param(lambda v: v["bounds"].pop("warning"), id="one missing"),
        pytest.param(lambda v: v["bounds"].update(extra=1), id="one too many"),
        pytest.param(lambda v: v["bounds"].pop("range_test"), id="no range test"),
        pytest.param(lambda v: v["bounds"]["range_test"]["lrs"].pop(), id="uneven curves"),
        pytest.param(lambda v: v["bounds"]["range_test"].update(format="x"), id="format"),
    ],
)
def test_damaged_bounds_are_a_value_error_that_names_the_file(run, tmp_path, damage):
    path = tmp_path / "run.json"
    run.save(path)
    values = json.loads(path.read_text())
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"run\.json is not a run"):
        Run.load(path)

"""Experiment, train and Run."""

import contextlib
import io
import json
import re
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
from markers import BACKEND
from small_data import SMALL, subset

from clr import (
    CyclicLR,
    CyclicPolicy,
    Experiment,
    Run,
    build,
    datasets,
    made_with,
    resolve_profile,
    train,
)
from clr.training import PROFILES

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def trained(eager):
    """A run on 100 digits, and what was printed meanwhile."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run = train(SMALL, subset())
    return run, printed.getvalue()


@pytest.fixture(scope="module")
def run(trained):
    return trained[0]


# Experiment


def test_experiment_defaults_to_the_tutorial():
    e = Experiment()
    assert (e.dataset, e.clr_method, e.min_lr, e.max_lr) == ("cifar10", "triangular", 1e-7, 1e-2)
    assert (e.step_size, e.batch_size, e.num_epochs, e.width) == (8, 64, 96, 1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("dataset", "", ValueError),
        ("dataset", 10, ValueError),
        ("clr_method", "sine", ValueError),
        ("min_lr", -1e-7, ValueError),
        ("min_lr", float("nan"), ValueError),
        ("min_lr", "low", TypeError),
        ("max_lr", 1e-8, ValueError),
        ("max_lr", float("inf"), ValueError),
        ("step_size", 0, ValueError),
        ("step_size", 1.5, ValueError),
        ("gamma", 0.0, ValueError),
        ("gamma", 1.5, ValueError),
        ("batch_size", 0, ValueError),
        ("batch_size", "64", TypeError),
        ("num_epochs", 0, ValueError),
        ("num_epochs", True, TypeError),
        ("width", 0.0, ValueError),
        ("width", -1.0, ValueError),
        ("momentum", 1.0, ValueError),
        ("momentum", -0.1, ValueError),
        ("optimizer", "sgdd", ValueError),
        ("decay", -1.0, ValueError),
        ("factor", 0.0, ValueError),
        ("factor", 2.0, ValueError),
        ("power", float("nan"), ValueError),
        ("cycle_momentum", 1, TypeError),
        ("bn_momentum", 1.0, ValueError),
        ("bn_momentum", float("nan"), ValueError),
        ("augment", "yes", TypeError),
        ("nesterov", 1, TypeError),
        ("weight_decay", -1e-4, ValueError),
        ("weight_decay", "none", TypeError),
        ("label_smoothing", 1.0, ValueError),
        ("dropout", 1.0, ValueError),
        ("crop", 4, TypeError),
        ("cutout", 1.0, ValueError),
        ("dtype", "float64", ValueError),
        ("jit_compile", "maybe", ValueError),
        ("seed", -1, ValueError),
        ("seed", None, TypeError),
    ],
)
def test_bad_field_is_named_with_its_value(name, value, error):
    with pytest.raises(error) as caught:
        Experiment(**{name: value})
    assert f"`{name}`" in str(caught.value) and f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"nesterov": True, "optimizer": "adam"}, "`nesterov`.*nesterov=True, optimizer='adam'"),
        ({"nesterov": True, "momentum": 0.0}, "`nesterov`.*optimizer='sgd', momentum=0.0"),
        ({"crop": True, "augment": False}, "`crop`.*crop=True, augment=False"),
        ({"cutout": 0.25, "augment": False}, "`cutout`.*cutout=0.25, augment=False"),
        (
            {"cycle_momentum": True, "clr_method": "cosine"},
            "`cycle_momentum`.*clr_method='cosine'",
        ),
        (
            {"cycle_momentum": True, "momentum": 0.0},
            "`cycle_momentum`.*optimizer='sgd', momentum=0.0",
        ),
        ({"cycle_momentum": True, "optimizer": "rmsprop"}, "`cycle_momentum`.*'rmsprop'"),
    ],
)
def test_options_that_can_have_no_effect_together_are_named(options, named):
    with pytest.raises(ValueError, match=f"{named}"):
        Experiment(**options)


def test_numbers_of_numpy_become_plain_ones():
    plain = asdict(Experiment(width=np.float32(0.5), min_lr=0, step_size=np.int64(2), seed=3.0))
    assert {type(v) for v in plain.values()} <= {str, int, float, bool, type(None)}
    assert (plain["width"], plain["min_lr"], plain["seed"]) == (0.5, 0.0, 3)


def test_cycle_counts_step_size_in_epochs():
    experiment = replace(SMALL, clr_method="exp_range", step_size=3, gamma=0.9)
    policy = experiment.learning_rate(22).policy
    assert policy == CyclicPolicy(1e-7, 0.1, 66, "exp_range", 0.9)


# Profiles


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_a_profile_named_outright_wins(monkeypatch, profile):
    monkeypatch.setenv("CLR_PROFILE", "quick" if profile == "full" else "full")
    assert resolve_profile(profile) == profile


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_auto_follows_the_environment(monkeypatch, profile):
    monkeypatch.setenv("CLR_PROFILE", profile)
    assert resolve_profile("auto") == profile
    assert Experiment.from_profile() == Experiment(**PROFILES[profile])


@pytest.mark.parametrize("empty", [True, False])
def test_auto_follows_the_hardware_otherwise(monkeypatch, empty):
    monkeypatch.delenv("CLR_PROFILE", raising=False)
    if empty:
        monkeypatch.setenv("CLR_PROFILE", "")
    if keras.backend.backend() == "torch":  # Keras lists no devices there.
        import torch

        only_cpu = not torch.cuda.is_available()
    else:
        only_cpu = all("cpu" in device.lower() for device in keras.distribution.list_devices())
    assert resolve_profile() == ("quick" if only_cpu else "full")


def test_unknown_profile_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"`profile`.*profile='slow'"):
        Experiment.from_profile("slow")
    monkeypatch.setenv("CLR_PROFILE", "fast")
    with pytest.raises(ValueError, match=r"`CLR_PROFILE`.*CLR_PROFILE='fast'"):
        resolve_profile()


def test_none_means_what_the_profile_says():
    e = Experiment.from_profile("quick", width=None, max_lr=0.05, augment=False, batch_size=None)
    assert e == Experiment(**{**PROFILES["quick"], "max_lr": 0.05, "augment": False})
    with pytest.raises(TypeError, match="epochs"):
        Experiment.from_profile("quick", epochs=3)


@pytest.mark.parametrize(
    ("asked", "beside"),
    [
        ({"step_size": 2}, {"clr_method": "constant"}),
        ({"step_size": 2}, {"clr_method": "one_cycle"}),
        ({"min_lr": 1e-4}, {"clr_method": "time"}),
        ({"gamma": 0.5}, {"clr_method": "triangular"}),
        ({"decay": 0.5}, {"clr_method": "step"}),
        ({"factor": 0.5}, {"clr_method": "cosine"}),
        ({"power": 1.0}, {"clr_method": "linear"}),
        ({"momentum": 0.5}, {"optimizer": "adam"}),
        ({"momentum": 0.5}, {"cycle_momentum": True}),
    ],
)
def test_an_option_asked_for_that_has_no_effect_is_refused_and_the_profiles_is_not(asked, beside):
    (name, value), (other, its) = *asked.items(), *beside.items()
    said = f"`{name}` has no effect beside {other}={its!r}.*{name}={value!r}, {other}={its!r}"
    with pytest.raises(ValueError, match=said):
        Experiment.from_profile("quick", **asked, **beside)
    Experiment.from_profile("quick", **beside)  # It has values of its own for some of them.
    replace(Experiment(**asked), **beside)  # Copied, not asked for.


# train


def test_an_epoch_has_only_full_batches(run):
    assert run.iterations_per_epoch == 100 // 32
    assert run.examples == {"train": 100, "test": 50}
    assert set(run.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert {len(values) for values in run.history.values()} == {2}
    assert np.isfinite(run.history["loss"]).all()


def test_rates_are_those_that_the_callback_would_set(run):
    rates = run.rates()
    assert rates.shape == (6,) and rates.dtype == np.float64
    assert rates[2::3].tolist() == run.history["learning_rate"]
    cycle = CyclicLR(SMALL.min_lr, SMALL.max_lr, step_size=3 * SMALL.step_size)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(np.ones((6, 1)), np.ones(6), batch_size=2, epochs=2, callbacks=[cycle], verbose=0)
    assert cycle.history["lr"] == rates.tolist()


def test_whole_cycles_end_one_step_from_the_lower_bound(run):
    step = (SMALL.max_lr - SMALL.min_lr) / 3
    np.testing.assert_allclose(run.rates() - SMALL.min_lr, step * np.array([0, 1, 2, 3, 2, 1]))


def test_report_confusion_and_history_agree(run):
    confusion = np.array(run.confusion)
    truth = subset().y_test.sum(axis=0)
    np.testing.assert_array_equal(confusion.sum(axis=1), truth)
    assert run.test_accuracy == np.trace(confusion) / 50
    assert run.test_accuracy == pytest.approx(run.history["val_accuracy"][-1])
    for i, name in enumerate(run.classes):
        assert run.report[name]["recall"] == pytest.approx(confusion[i, i] / truth[i])
        assert run.report[name]["support"] == truth[i]


def test_classification_report_has_a_row_for_each_class(run):
    lines = run.classification_report().splitlines()
    rows = {line[:12].strip(): line.split() for line in lines}
    assert [name for name in rows if name.isdigit()] == run.classes
    assert rows["3"][2] == f"{run.report['3']['recall']:.2f}"
    assert rows["accuracy"][1] == f"{run.test_accuracy:.4f}"


def test_the_trained_network_comes_with_the_run(run):
    data = subset()
    predicted = keras.ops.convert_to_numpy(run.model(data.x_test, training=False)).argmax(axis=1)
    assert (predicted == data.y_test.argmax(axis=1)).mean() == pytest.approx(run.test_accuracy)
    assert run.parameters == run.model.count_params()


def test_progress_is_one_plain_line_an_epoch_with_the_time_left(trained):
    lines = trained[1].splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"epoch {number}/2  accuracy \S+  loss \S+  .*val_loss \S+.*  \d+:\d\d:\d\d left", line
        )
        assert line.isprintable()
    assert lines[-1].endswith("0:00:00 left")


def test_two_classes_train_on_binary_cross_entropy(capsys):
    data = subset(32, 40, classes=2)
    two = train(replace(SMALL, augment=False), data, verbose=False)
    assert isinstance(two.model.loss, keras.losses.BinaryCrossentropy)
    assert two.classes == ["0", "1"] and np.array(two.confusion).shape == (2, 2)
    assert two.history["val_accuracy"][-1] == pytest.approx(two.test_accuracy)
    out = two.model.predict(data.x_test, verbose=0)
    loss = keras.losses.categorical_crossentropy(data.y_test, out)
    assert two.history["val_loss"][-1] == pytest.approx(float(keras.ops.mean(loss)), rel=1e-4)
    assert "epoch" not in capsys.readouterr().out


def test_the_seed_decides_the_history():
    data = subset(32, 10)

    def losses(seed):
        e = replace(SMALL, width=0.05, seed=seed)
        return train(e, data, verbose=False).history["loss"]

    first, again, other = losses(1), losses(1), losses(2)
    np.testing.assert_allclose(again, first, rtol=1e-4)
    assert abs(other[0] - first[0]) > 1e-3 * first[0]


def test_mixed_precision_trains_and_leaves_the_policy_as_it_was():
    before = keras.config.dtype_policy()
    e = replace(SMALL, dtype="mixed_bfloat16", augment=False, batch_size=16, width=0.05)
    run = train(e, subset(16, 10), verbose=False)
    assert run.model.layers[1].compute_dtype == "bfloat16"
    assert np.isfinite(run.history["loss"]).all()
    assert keras.config.dtype_policy() == before


def test_dtype_policy_is_restored_when_training_fails():
    before = keras.config.dtype_policy()
    tiny = replace(subset(64, 8), x_train=np.zeros((64, 8, 8, 3), "float32"))
    with pytest.raises(ValueError, match="input_shape"):
        train(replace(SMALL, dtype="mixed_bfloat16"), tiny)
    assert keras.config.dtype_policy() == before


def test_train_refuses_what_it_cannot_do():
    with pytest.raises(TypeError, match=r"`experiment`.*experiment='quick'"):
        train("quick")
    with pytest.raises(ValueError, match=r"`batch_size`.*20.*batch_size=32"):
        train(SMALL, subset(20, 8))
    with pytest.raises(ValueError, match=r"`dataset`.*cifar10, digits.*dataset='mnist'"):
        train(replace(SMALL, dataset="mnist"))


def test_a_callback_that_sets_a_constant_rate_is_refused():
    constant = replace(SMALL, width=0.05, augment=False, clr_method="constant")
    cycle = CyclicLR(1e-3, 0.05, step_size=3)
    with pytest.raises(ValueError, match=r"`callbacks` must leave the rate.*max_lr=0\.1"):
        train(constant, subset(96, 10), verbose=False, callbacks=[cycle])


def test_a_run_says_the_name_of_the_data_that_it_was_given(tmp_path):
    own = replace(subset(16, 10), name="own", source="here")
    experiment = replace(SMALL, batch_size=16, width=0.05, augment=False)
    run = train(experiment, own, verbose=False, run_dir=tmp_path)
    assert run.experiment == replace(experiment, dataset="own")
    assert run.provenance().startswith("Data: own (here), 16 training and 10 test images.")
    with pytest.raises(ValueError, match=r"run_dir.*'own'"):
        train(experiment, subset(16, 10), verbose=False, run_dir=tmp_path)


# Run


def test_a_run_survives_its_file(run, tmp_path):
    run.save(tmp_path / "run.json")
    loaded = Run.load(tmp_path / "run.json")
    assert loaded == run
    assert loaded.model is None
    np.testing.assert_array_equal(loaded.rates(), run.rates())
    assert loaded.provenance() == run.provenance()
    assert list(tmp_path.iterdir()) == [tmp_path / "run.json"]


def test_provenance_says_what_a_reader_must_know(run):
    said = run.provenance()
    for part in ("digits", run.data, "100 training and 50 test", f"{run.parameters:,} parameters"):
        assert part in said
    for part in ("Seed 42", "2 epochs", f"keras {keras.__version__}", run.hardware["processor"]):
        assert part in said
    assert said in made_with("quick", run)
    assert "'quick'" in made_with("quick") and keras.__version__ in made_with("quick")


def altered(**changes):
    def alter(text):
        return json.dumps({**json.loads(text), **changes})

    return alter


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[: len(text) // 2], id="truncated"),
        pytest.param(lambda text: "\x00" + text[1:], id="damaged"),
        pytest.param(lambda text: "[1, 2]", id="a list"),
        pytest.param(lambda text: '"clr-run/1"', id="a string"),
        pytest.param(lambda text: '{"nbformat": 4}', id="foreign"),
        pytest.param(altered(format="clr-run/2"), id="another format"),
        pytest.param(altered(extra=1), id="an unknown field"),
        pytest.param(altered(experiment={"clr_method": "sine"}), id="a bad experiment"),
        pytest.param(altered(experiment={"epochs": 3}), id="an unknown parameter"),
        pytest.param(altered(report={}), id="no accuracy"),
        pytest.param(altered(history={"loss": []}), id="no epoch"),
        pytest.param(altered(history={"loss": [1.0] * 9}), id="epochs that were not asked for"),
        pytest.param(lambda text: '{"format": "clr-run/1"}', id="nothing but the format"),
    ],
)
def test_what_is_no_run_is_a_value_error_that_names_the_file(run, tmp_path, alter):
    path = tmp_path / "run.json"
    run.save(path)
    path.write_text(alter(path.read_text()))
    with pytest.raises(ValueError, match=r"run\.json is not a run"):
        Run.load(path)


def test_a_missing_run_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Run.load(tmp_path / "run.json")


def test_a_failing_write_leaves_the_old_run(run, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "run.json"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            run.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"


def test_on_jax_a_training_with_augmentation_is_compiled():
    # Keras's own answer for its layers that shift or zoom images is never, on any backend.
    model = build(replace(SMALL, augment=True), datasets.digits())
    assert model.jit_compile == (BACKEND == "jax")


# The recipe


def built(**options):
    return build(replace(SMALL, **options), subset(32, 10))


def test_the_recipes_options_reach_model_and_optimizer():
    plain = built(augment=False, weight_decay=None)
    assert plain.optimizer.weight_decay is None and not plain.optimizer.nesterov
    assert plain.loss.get_config()["label_smoothing"] == 0
    model = built(
        augment=False, nesterov=True, weight_decay=0.01, label_smoothing=0.1, dropout=0.25
    )
    assert model.optimizer.nesterov and model.optimizer.weight_decay == 0.01
    assert model.loss.get_config()["label_smoothing"] == 0.1
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [
        0.25
    ]


def test_weight_decay_takes_its_share_off_kernels_alone():
    model = built(augment=False, clr_method="constant", max_lr=0.1, momentum=0, weight_decay=0.5)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    model.optimizer.apply(
        [keras.ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables
    )
    for variable in model.trainable_variables:
        share = 0.95 if variable.path.endswith("kernel") else 1
        after = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(after, share * before[variable.path], rtol=1e-6)


def test_adamw_keeps_its_own_decay_unless_one_is_given():
    own = keras.optimizers.AdamW().weight_decay
    assert built(optimizer="adamw").optimizer.weight_decay == own
    assert built(optimizer="adamw", weight_decay=0.0).optimizer.weight_decay == 0


def test_the_momentum_cycles_in_the_step_of_a_training():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append("apply" in vars(self.model.optimizer))

    train(
        replace(SMALL, clr_method="one_cycle", cycle_momentum=True),
        *(subset(160, 10), False),
        callbacks=[Watch()],
    )
    assert seen and all(seen)


def test_a_training_that_a_callback_stops_is_saved_as_far_as_it_went(eager, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    experiment = replace(SMALL, width=0.05, num_epochs=4)
    run = train(experiment, subset(64, 20), verbose=False, callbacks=[Stop()])
    run.save(tmp_path / "run.json")
    loaded = Run.load(tmp_path / "run.json")
    assert loaded.history == run.history and len(run.history["loss"]) == 2
    assert loaded.rates().shape == (2 * run.iterations_per_epoch,)
    assert "2 epochs of the 4 planned" in loaded.provenance()

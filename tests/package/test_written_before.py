"""What an earlier version wrote is read by this one: runs, range tests, models, checkpoints.

The files are those of commit 1c4d4a7, the last whose package had one file for all of training. The
models: `fit` for one epoch with a schedule, or for two with `CyclicLR`.
"""

import importlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest
from markers import needs_tensorflow
from small_data import subset

import clr
from clr import CyclicalLearningRate, Experiment, OneCycleLearningRate, Run, train
from clr.range_test import RangeTest

FILES = Path(__file__).resolve().parents[1] / "support" / "written_before"
# Options of an experiment that have come since.
SINCE = "nesterov weight_decay label_smoothing dropout crop cutout average".split()


# What the modules that are folders now offered by name.
OFFERED = {
    "clr.training": """COMMIT DTYPES PROFILES Experiment Run accelerators build hardware made_with
        resolve_profile train versions""",
    "clr.range_test": """BACKENDS FEWEST_POINTS FEWEST_STEPS RangeTest SCHEDULES SKIP_FIRST
        SKIP_LAST SMITH SOURCES Suggestion lr_range_test""",
    "clr.datasets": """Batches CIFAR10_CLASSES Dataset LOADERS REPORTED augmentation cifar10 digits
        image_folder load prepare""",
}


@pytest.mark.parametrize("module", OFFERED)
def test_every_name_is_where_it_was(module):
    offers = importlib.import_module(module)
    for name in OFFERED[module].split():
        getattr(offers, name)


def test_the_modules_that_chapters_use_are_attributes_of_the_package():
    assert clr.records.RUNS.name == "runs"
    assert callable(clr.sweeps.table) and callable(clr.runtime.run_dir)


def test_a_run_is_read_whole():
    stored, run = json.loads((FILES / "run.json").read_text()), Run.load(FILES / "run.json")
    assert asdict(run.experiment) == asdict(Experiment()) | stored["experiment"]
    assert run.history == stored["history"]
    assert len(run.rates()) == 4 * run.iterations_per_epoch
    assert "Seed 42" in run.provenance()


def test_a_run_is_written_as_it_was_with_the_options_that_have_come_since(tmp_path):
    Run.load(FILES / "run.json").save(tmp_path / "run.json")
    old, new = (json.loads((folder / "run.json").read_text()) for folder in (FILES, tmp_path))
    came = {name: new["experiment"].pop(name) for name in SINCE}
    assert new == old and came == {name: getattr(Experiment(), name) for name in SINCE}


def test_a_range_test_is_read_and_written_as_it_was(tmp_path):
    result = RangeTest.from_json(FILES / "range_test.json")
    result.to_json(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (FILES / "range_test.json").read_bytes()
    assert result.suggest("minimum").max_lr > 0


@pytest.mark.parametrize(
    "name, updates, rate",
    [
        ("cyclical", 4, CyclicalLearningRate(1e-3, 1e-1, 4, "exp_range", 0.99, step_size_down=6)),
        ("one_cycle", 4, OneCycleLearningRate(0.1, 20, three_phase=True)),
        ("callback", 8, None),
    ],
)
def test_a_model_loads_with_its_place_in_the_cycle_and_trains_on(name, updates, rate):
    model = keras.saving.load_model(FILES / f"{name}.keras")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    for made in (updates, updates + 4):
        assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == made
        if rate is not None:
            in_force = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
            assert in_force == pytest.approx(float(rate.policy.rate(made)), rel=1e-6)
        model.fit(x, x.sum(axis=1, keepdims=True), batch_size=16, verbose=0)


@needs_tensorflow  # Which variables a model has, and their order, depends on the backend.
def test_a_training_killed_under_the_old_version_goes_on_under_this_one(tmp_path, capsys):
    whole = Run.load(FILES / "run.json")
    shutil.copytree(FILES / "killed", tmp_path / "run")
    run = train(whole.experiment, subset(64, 20), run_dir=tmp_path / "run")
    assert "going on after epoch 2 of 4" in capsys.readouterr().out
    for name, values in whole.history.items():
        assert run.history[name][:2] == values[:2]
        np.testing.assert_allclose(run.history[name], values, rtol=1e-2, atol=0.02)
    assert len(run.snapshots["accuracy"]) == len(whole.snapshots["accuracy"]) == 2

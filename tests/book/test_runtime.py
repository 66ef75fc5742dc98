"""The machine a notebook runs on: its GPU, and what a disconnected session goes on from."""

import os
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest

from clr import Experiment, prepare, runtime
from clr.__main__ import main
from clr.training import accelerators

CHAPTER = Path(__file__).resolve().parents[2] / "notebooks" / "07_train_cifar10.ipynb"
HERE = {"DTYPE": "mixed_bfloat16", "NUM_EPOCHS": 2, "STEP_SIZE": 1, "WIDTH": 0.05}

no_gpu = pytest.mark.skipif(bool(accelerators()), reason="there is a GPU, so nothing to warn of")


@no_gpu
def test_the_full_profile_without_a_gpu_is_warned_of_with_the_remedy():
    with pytest.warns(UserWarning, match="Runtime > Change runtime type"):
        prepare("full")


@no_gpu
def test_the_training_script_warns_as_well(capsys):
    with pytest.warns(UserWarning, match="made for a GPU"):
        assert main(["train", "--dataset", "nowhere"]) == 2


@pytest.mark.parametrize("profile", ["quick", "auto"])
def test_what_the_machine_can_bear_is_not_warned_of(profile, monkeypatch):
    monkeypatch.delenv("CLR_PROFILE", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(profile)


def test_memory_is_taken_as_needed_unless_the_reader_says_otherwise(monkeypatch):
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    prepare("quick")
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    prepare("quick")
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"


def test_each_experiment_has_a_folder_of_its_own(tmp_path):
    experiment = Experiment()
    folder = runtime.run_dir(experiment, tmp_path)
    assert folder.parent == tmp_path and folder.name.startswith("triangular-")
    assert runtime.run_dir(Experiment(), tmp_path) == folder
    assert runtime.run_dir(replace(experiment, min_lr=1e-6), tmp_path) != folder
    assert runtime.run_dir(experiment) is None


def test_the_drive_elsewhere_than_on_colab_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`drive` must be False .* Received: drive=True"):
        runtime.run_dir(Experiment(), tmp_path, drive=True)


def test_on_colab_checkpoints_are_kept_and_the_run_is_offered(tmp_path, monkeypatch):
    # A stand-in, for Colab's module is on Colab alone.
    done, colab = [], types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=lambda path: done.append(("mount", path)))
    colab.files = types.SimpleNamespace(download=lambda path: done.append(("download", path)))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr(runtime, "ON_COLAB", True)
    monkeypatch.setattr(runtime, "DRIVE", tmp_path)

    assert runtime.run_dir(Experiment()).parent == Path("clr-runs")
    assert done == []
    assert runtime.run_dir(Experiment(), drive=True).parent == tmp_path / "MyDrive" / "clr-runs"
    runtime.offer_download("run.json")
    assert done == [("mount", str(tmp_path)), ("download", "run.json")]


def test_elsewhere_no_download_is_offered():
    runtime.offer_download(None)  # Would fail on importing google.colab.


@pytest.mark.filterwarnings("ignore:.*snapshot-001.npz is of a later cycle")
def test_the_chapter_goes_on_from_its_checkpoint(tmp_path, capsys):
    first = run_the_chapter(RUN_DIR=str(tmp_path), **HERE)
    assert "going on" not in capsys.readouterr().out
    (last,) = tmp_path.glob("*/checkpoint-00002.npz")
    last.unlink()  # As if the session had been cut off in the second epoch.
    second = run_the_chapter(RUN_DIR=str(tmp_path), **HERE)
    said = capsys.readouterr().out
    assert "going on after epoch 1 of 2" in said
    assert "epoch 2/2" in said and "epoch 1/2" not in said
    assert second["run"].history == first["run"].history
    assert Path(second["output"]).is_file()


def run_the_chapter(**parameters):
    """The names that its training leaves: of settings, imports, and the experiment's cells."""
    names: dict = {}
    code = [c for c in nbformat.read(CHAPTER, as_version=4).cells if c.cell_type == "code"]
    settings, imports = code[1:3]
    assert "parameters" in settings.metadata.tags
    exec(settings.source, names)
    names.update(PROFILE="quick", **parameters)
    exec(imports.source, names)
    begin = next(k for k, c in enumerate(code) if c.source.startswith("experiment = clr.Exp"))
    end = next(k for k, c in enumerate(code) if "run = clr.train(" in c.source)
    for cell in code[begin : end + 1]:
        if "remove-input" not in cell.metadata.get("tags", []):  # Tables and sentences.
            exec(cell.source, names)
    plt.close("all")
    return names

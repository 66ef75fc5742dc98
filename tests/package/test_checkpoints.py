import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from small_data import SMALL, subset

from clr import Run, train

SUPPORT = Path(__file__).resolve().parents[1] / "support"
TRAIN = f"""
import hashlib, sys
sys.path.insert(0, {str(SUPPORT)!r})
import keras
from dataclasses import replace
from small_data import SMALL, subset
from clr import train
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.experimental.enable_op_determinism()
experiment = replace(SMALL, width=0.05, num_epochs=6, clr_method="one_cycle", cycle_momentum=True)
run = train(experiment, subset(128, 20), run_dir=sys.argv[1])
digest = hashlib.sha256(b"".join(w.tobytes() for w in run.model.get_weights())).hexdigest()
run.save(sys.argv[1] + "/run.json")
print("weights", digest, flush=True)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, folder],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_killed_training_goes_on_to_the_very_weights_of_one_never_killed(tmp_path):
    whole, _ = start(str(tmp_path / "whole")).communicate(timeout=300)
    for epochs_before_the_kill in (1, 2):
        process = start(str(tmp_path / "killed"))
        for line in process.stdout:
            epochs_before_the_kill -= line.startswith("epoch ")
            if epochs_before_the_kill < 0:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    resumed, _ = start(str(tmp_path / "killed")).communicate(timeout=300)
    assert sum(line.startswith("epoch ") for line in whole.splitlines()) == 6
    assert 0 < sum(line.startswith("epoch ") for line in resumed.splitlines()) < 6
    assert resumed.splitlines()[-1] == whole.splitlines()[-1]
    runs = [Run.load(tmp_path / name / "run.json") for name in ("whole", "killed")]
    assert runs[0].history == runs[1].history and runs[0].confusion == runs[1].confusion


SHORT = replace(SMALL, width=0.05, num_epochs=2, augment=False)


pytestmark = pytest.mark.usefixtures("eager")
# The snapshot of the epoch whose checkpoint is gone; test_snapshots.py is about it.
LATER = pytest.mark.filterwarnings("ignore:.*snapshot-001.npz is of a later cycle")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, eager):
    folder = tmp_path_factory.mktemp("trained")
    train(SHORT, subset(64, 10), verbose=False, run_dir=folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A folder with the checkpoints of two epochs."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def names(folder):
    return sorted(path.name for path in folder.iterdir() if "snapshot" not in path.name)


def test_the_last_two_checkpoints_are_kept(folder):
    assert names(folder) == ["checkpoint-00001.npz", "checkpoint-00002.npz"]
    train(replace(SHORT, num_epochs=4), subset(64, 10), False, folder.parent / "longer")
    assert names(folder.parent / "longer") == ["checkpoint-00003.npz", "checkpoint-00004.npz"]


def test_a_finished_training_is_not_trained_again(folder):
    before = names(folder)
    run = train(SHORT, subset(64, 10), verbose=False, run_dir=folder)
    assert len(run.history["loss"]) == 2 and names(folder) == before


@LATER
def test_a_run_can_be_saved_after_it_was_resumed(folder, tmp_path):
    (folder / "checkpoint-00002.npz").unlink()
    run = train(SHORT, subset(64, 10), verbose=False, run_dir=folder)
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run
    assert {len(values) for values in run.history.values()} == {2}


@LATER
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[: len(content) // 2], id="half"),
        pytest.param(
            lambda content: content[:2000] + b"\x00\xff" * 50 + content[2100:], id="overwritten"
        ),
        pytest.param(lambda content: b"something else", id="foreign"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(folder, damage):
    last = folder / "checkpoint-00002.npz"
    last.write_bytes(damage(last.read_bytes()))
    with pytest.warns(UserWarning, match=r"checkpoint-00002\.npz is damaged and passed over"):
        run = train(SHORT, subset(64, 10), verbose=False, run_dir=folder)
    assert len(run.history["loss"]) == 2
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*damaged")
        assert train(SHORT, subset(64, 10), False, folder).history == run.history


@LATER
def test_a_checkpoint_with_pickled_objects_is_passed_over_unopened(folder):
    class Harm:
        def __reduce__(self):
            return os.system, ("exit 1",)

    last = folder / "checkpoint-00002.npz"
    np.savez(last, said=np.array([Harm()], dtype=object))
    with pytest.warns(UserWarning, match="passed over: ValueError: Object arrays"):
        train(SHORT, subset(64, 10), verbose=False, run_dir=folder)


def test_a_folder_belongs_to_one_experiment(folder):
    with pytest.raises(ValueError, match=r"`run_dir`.*same experiment.*run_dir="):
        train(replace(SHORT, seed=7), subset(64, 10), verbose=False, run_dir=folder)


def test_a_checkpoint_that_can_not_be_written_is_an_error_and_the_last_one_is_intact(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class DiscFull(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    constant = replace(SHORT, clr_method="constant")
    try:
        with pytest.raises(OSError, match=r"checkpoint-00002\.npz could not be written.*intact"):
            train(constant, subset(64, 10), False, run_dir=tmp_path, callbacks=[DiscFull()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["checkpoint-00001.npz"]
    assert len(train(constant, subset(64, 10), False, tmp_path).history["loss"]) == 2


def test_a_folder_that_goes_amid_training_is_an_error_and_the_next_start_begins_anew(tmp_path):
    folder, whole = tmp_path / "run", train(SHORT, subset(64, 10), verbose=False)

    class Gone(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                shutil.rmtree(folder)

    with pytest.raises(OSError, match=r"could not be written"):
        train(SHORT, subset(64, 10), verbose=False, run_dir=folder, callbacks=[Gone()])
    assert not folder.exists()
    again = train(SHORT, subset(64, 10), verbose=False, run_dir=folder)
    np.testing.assert_allclose(again.history["loss"], whole.history["loss"], rtol=1e-4)


def test_a_half_written_checkpoint_of_a_killed_process_is_removed_unread(folder):
    left = folder / ".checkpoint-00003.npz.abc123"
    left.write_bytes((folder / "checkpoint-00002.npz").read_bytes()[:1000])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*damaged")
        train(SHORT, subset(64, 10), verbose=False, run_dir=folder)
    assert not left.exists() and len(names(folder)) == 2


def test_a_run_dir_that_can_not_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="output folder"):
        train(SHORT, subset(64, 10), verbose=False, run_dir=tmp_path / "file")
    assert names(tmp_path) == ["file"]

"""A training killed twenty times: see the table of faults in CONTRIBUTING.md."""

import json
import multiprocessing
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from markers import TENSORFLOW
from small_data import SMALL, subset

from clr import Run, train

KILLS, EPOCHS, STEPS = 20, 40, 4
# All that must be gone on with: cycles of rate and momentum, and snapshots at their ends; dropout;
# augmentation.
EXPERIMENT = replace(
    SMALL,
    width=0.05,
    num_epochs=EPOCHS,
    clr_method="triangular2",
    step_size=5,
    cycle_momentum=True,
)

# Each life is a process of its own, forked from one that has imported everything and run nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["clr", "pytest", "sklearn.metrics", "tensorflow"])


def live(folder, said):
    """Trains, tells when an epoch begins, and writes down what each batch is trained with."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    tf.config.run_functions_eagerly(True)  # To compile would take longer than to train.
    trace = os.open(f"{folder}.trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, b"[]\n")  # A new life.

    class Written(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            said.send(epoch)

        def on_train_batch_begin(self, batch, logs=None):
            optimizer = self.model.optimizer
            values = optimizer.iterations, optimizer.learning_rate
            line = [keras.ops.convert_to_numpy(value).item() for value in values]
            os.write(trace, json.dumps(line).encode() + b"\n")

    data = subset(STEPS * 32, 20)
    run = train(EXPERIMENT, data, verbose=False, run_dir=folder, callbacks=[Written()])
    run.save(f"{folder}.json")
    np.savez(f"{folder}.npz", *run.model.get_weights())


def start(folder):
    hears, said = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=live, args=(folder, said))
    process.start()
    said.close()
    return process, hears


def finish(folder):
    """Trains to the end, and returns how long an epoch took."""
    process, hears = start(folder)
    began = hears.recv()
    started = time.perf_counter()
    process.join()
    assert process.exitcode == 0
    return (time.perf_counter() - started) / (EPOCHS - began)


def lives(folder):
    """What each process wrote down: of each batch the iteration and the rate."""
    found = []
    for line in Path(f"{folder}.trace").read_text().splitlines():
        found.append([]) if line == "[]" else found[-1].append(json.loads(line))
    return found


def assert_same_arrays(one, other):
    with np.load(one, allow_pickle=False) as these, np.load(other, allow_pickle=False) as those:
        assert these.files == those.files
        assert all((these[name] == those[name]).all() for name in these.files), other.name


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="tried once, on TensorFlow")
def test_killed_twenty_times_a_training_ends_where_one_never_killed_does(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    epoch = finish(whole)
    (uninterrupted,) = lives(whole)
    assert [line[0] for line in uninterrupted] == list(range(EPOCHS * STEPS))

    chance, half_written = random.Random(0), 0
    for kill in range(KILLS):
        process, hears = start(killed)
        for _ in range(chance.randint(1, 2)):
            hears.recv()  # An epoch begins.
        if kill % 4 == 3:  # As a checkpoint or a snapshot is being written,
            until = time.perf_counter() + 2 * epoch
            while time.perf_counter() < until and not list(killed.glob(".*.npz.*")):
                pass
        else:  # or at any moment of the epoch.
            time.sleep(chance.uniform(0, epoch))
        assert process.is_alive()
        process.kill()
        process.join()
        half_written += bool(list(killed.glob(".*.npz.*")))
    finish(killed)

    runs = [Run.load(f"{folder}.json") for folder in (whole, killed)]
    assert runs[0].history == runs[1].history and runs[0].report == runs[1].report
    assert runs[0].snapshots == runs[1].snapshots and len(runs[0].snapshots["accuracy"]) == 4
    assert_same_arrays(tmp_path / "whole.npz", tmp_path / "killed.npz")
    kept = sorted(path.name for path in whole.glob("snapshot-*.npz"))
    assert kept == sorted(path.name for path in killed.glob("snapshot-*.npz")) and len(kept) == 4
    for name in kept:
        assert_same_arrays(whole / name, killed / name)
    assert not list(killed.glob(".*")), "a half-written file was left"

    lived = lives(killed)
    assert len(lived) == KILLS + 1
    assert all(line == uninterrupted[line[0]] for life in lived for line in life)
    done, lost = 0, []  # In iterations.
    for life in filter(None, lived):  # Some are killed before their first batch.
        assert [line[0] for line in life] == list(range(life[0][0], life[0][0] + len(life)))
        assert life[0][0] % STEPS == 0
        lost.append(done - life[0][0])
        done = life[-1][0] + 1
    assert done == EPOCHS * STEPS
    print(f"{KILLS} kills, {half_written} amid the writing of a file. Iterations lost: {lost}")
    assert min(lost) >= 0 and max(lost) <= STEPS, "more than an epoch was lost"

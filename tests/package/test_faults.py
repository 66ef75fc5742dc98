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
# augmentation. Averaged are the ends of cycles, or of epochs, where a kill may come between the
# average's file and the checkpoint after each of the last ones.
EXPERIMENT = replace(
    SMALL,
    width=0.05,
    num_epochs=EPOCHS,
    clr_method="triangular2",
    step_size=5,
    cycle_momentum=True,
    average=True,
)
EXPERIMENTS = {"cycles": EXPERIMENT, "epochs": replace(EXPERIMENT, clr_method="one_cycle")}

# Each life is a process of its own, forked from one that has imported everything and run nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["clr", "pytest", "sklearn.metrics", "tensorflow"])


def live(folder, said, what):
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
    run = train(EXPERIMENTS[what], data, verbose=False, run_dir=folder, callbacks=[Written()])
    run.save(f"{folder}.json")
    np.savez(f"{folder}.npz", *run.model.get_weights())


def start(folder, what):
    hears, said = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=live, args=(folder, said, what))
    process.start()
    said.close()
    return process, hears


def finish(folder, what):
    """Trains to the end, and returns how long an epoch took."""
    process, hears = start(folder, what)
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


def epochs_of(what, kill, chance):
    """How many epochs begin before a kill. With "epochs", the averaged ones are near."""
    if what == "epochs":
        return 1 if kill else EPOCHS * 3 // 4
    return chance.randint(1, 2)


def wait(until, event):
    while time.perf_counter() < until and not event():
        pass


def ahead(folder):
    """Whether the last average is of a later epoch than the last checkpoint."""
    names = [sorted(p.stem for p in folder.glob(f"{n}-*.npz")) for n in ("average", "checkpoint")]
    of, at = (int(each[-1].split("-")[1]) if each else 0 for each in names)
    return of > at


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="tried once, on TensorFlow")
@pytest.mark.parametrize("what", EXPERIMENTS)
def test_killed_twenty_times_a_training_ends_where_one_never_killed_does(tmp_path, what):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    epoch = finish(whole, what)
    (uninterrupted,) = lives(whole)
    assert [line[0] for line in uninterrupted] == list(range(EPOCHS * STEPS))

    chance, half_written, between = random.Random(0), 0, 0
    for kill in range(KILLS):
        process, hears = start(killed, what)
        for _ in range(epochs_of(what, kill, chance)):
            hears.recv()  # An epoch begins.
        until = time.perf_counter() + 2 * epoch
        if kill % 4 == 3:  # As a checkpoint, a snapshot or an average is being written,
            wait(until, lambda: list(killed.glob(".*.npz.*")))
        elif kill % 2 and what == "epochs":  # between an average and its checkpoint,
            wait(until, lambda: ahead(killed))
        else:  # or at any moment of the epoch.
            time.sleep(chance.uniform(0, epoch))
        assert process.is_alive()
        process.kill()
        process.join()
        half_written += bool(list(killed.glob(".*.npz.*")))
        between += ahead(killed)
    assert between or what == "cycles"
    finish(killed, what)

    runs = [Run.load(f"{folder}.json") for folder in (whole, killed)]
    assert runs[0].history == runs[1].history and runs[0].report == runs[1].report
    assert runs[0].snapshots == runs[1].snapshots and runs[0].averaged == runs[1].averaged
    assert_same_arrays(tmp_path / "whole.npz", tmp_path / "killed.npz")
    kept, those = ({p.name for p in folder.glob("[sa]*.npz")} for folder in (whole, killed))
    assert kept == those
    cycles = {f"snapshot-{n:03}.npz" for n in range(1, 5)} | {"average-004.npz"}
    assert kept >= (cycles if what == "cycles" else {f"average-{EPOCHS:03}.npz"})
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
    print(
        f"{KILLS} kills, {half_written} amid the writing of a file, {between} before a checkpoint"
    )
    print(f"Iterations lost: {lost}")
    assert min(lost) >= 0 and max(lost) <= STEPS, "more than an epoch was lost"

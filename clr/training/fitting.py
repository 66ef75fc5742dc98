"""`train`: from an `Experiment` to a `Run`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np

from clr import datasets, optimizers
from clr.averaging import AveragedWeights
from clr.models import MiniGoogLeNet
from clr.momentum import cycle_momentum
from clr.progress import Bar
from clr.schedule import CyclicalLearningRate, PolicySchedule
from clr.snapshots import Snapshots
from clr.training import bounds, machine
from clr.training.bounds import FoundBounds
from clr.training.checkpoints import Checkpoints
from clr.training.evaluation import AT_ONCE, evaluated
from clr.training.experiment import OPTIMIZERS, Experiment, Rate, is_auto
from clr.training.progress import Progress, plain
from clr.training.run import Run


def build(experiment: Experiment, data: datasets.Dataset) -> keras.Model:
    """Returns an experiment's network, augmentation in front, compiled and untrained.

    The loss is the categorical cross-entropy, binary for two classes. The optimizer has the
    experiment's rate: a schedule, or a number for the method `"constant"`. If the momentum is to
    cycle, it does.

    Args:
        experiment: What to train.
        data: The data, for the images' shape and the classes.

    Raises:
        ValueError: The experiment's `max_lr` is `"auto"`, which only `train` finds a number for.
    """
    iterations = experiment.iterations_per_epoch(len(data.x_train))
    return _build(experiment, data, experiment.learning_rate(iterations))


def _build(experiment: Experiment, data: datasets.Dataset, rate: Rate) -> keras.Model:
    is_binary = len(data.classes) == 2
    loss = keras.losses.BinaryCrossentropy if is_binary else keras.losses.CategoricalCrossentropy
    with _dtype_policy(experiment.dtype):
        model = MiniGoogLeNet(
            data.x_train.shape[1:],
            len(data.classes),
            experiment.width,
            dropout=experiment.dropout,
            bn_momentum=experiment.bn_momentum,
        )
        if experiment.augment:
            layers = datasets.augmentation(data.flip, experiment.crop, experiment.cutout)
            model = keras.Sequential([layers, model])
        model.compile(
            _optimizer(experiment, rate),
            loss=loss(label_smoothing=experiment.label_smoothing),
            metrics=["categorical_accuracy" if is_binary else "accuracy"],
            jit_compile=experiment.jit_compile,
        )
    if experiment.cycle_momentum and isinstance(rate, PolicySchedule):
        cycle_momentum(model.optimizer, rate.policy)
    return model


def _optimizer(experiment: Experiment, rate: Rate) -> keras.optimizers.Optimizer:
    make = OPTIMIZERS[experiment.optimizer]
    if experiment.weight_decay is None:
        return make(experiment, rate)
    optimizer = make(experiment, rate, weight_decay=experiment.weight_decay)
    # Decay of these takes nothing from what the network can express, and slows it down.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def train(
    experiment: Experiment,
    data: datasets.Dataset | None = None,
    verbose: bool = True,
    run_dir: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains MiniGoogLeNet as the experiment says and evaluates it on the test images.

    Sets the random seeds of Python, NumPy and Keras. With `run_dir` the training may be killed at
    any moment and started again: it goes on from the last epoch's end with the same rates, batches,
    dropout and augmentation as if it had never stopped.

    If the experiment says `max_lr="auto"`, a range test comes first, with the same network, initial
    weights, optimizer, batches and augmentation. The training run then is, bit for bit, the one
    with the found numbers given. One that goes on from a checkpoint keeps the bounds found at its
    beginning and does not test again.

    With `average=True` the training run is the same, bit for bit, and the average of its weights is
    evaluated beside its last network: `Run.averaged`. `Run.average` puts it into the model.

    Args:
        experiment: What to train.
        data: The data to train on. Defaults to what `experiment.dataset` names. The run's own
            `experiment.dataset` is the name of what it was trained on.
        verbose: Whether to print a line after each epoch and, on a terminal and in an open
            notebook, to show the batches done and the time left. Defaults to `True`.
        run_dir: Folder for checkpoints. Defaults to none.
        callbacks: Keras callbacks of your own. Each is called before the checkpoint is written.
            None can set the rate: the compiled step computes it, and where it is constant, another
            is refused. A checkpoint does not hold what they keep. Defaults to none.

    Raises:
        OSError: A checkpoint could not be written; the one before it is intact.
        TypeError: `experiment` is not an `Experiment`, or a callback is none of Keras's.
        ValueError: No such data set, `batch_size` above the number of training images, a `run_dir`
            that can't be written to or belongs to another experiment, a range test that finds no
            bounds, or a callback that has set the rate.

    Warns:
        UserWarning: The bounds that a range test found should not be trusted as they are.
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(
            f"`experiment` must be a clr.Experiment. Received: experiment={experiment!r}"
        )
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"`callbacks` must be Keras callbacks. Received: {callback!r}")
    commit = machine.commit()  # Of the code as it is now, whatever is committed in the meantime.
    data = datasets.load(experiment.dataset) if data is None else data
    experiment = replace(experiment, dataset=data.name)

    keras.utils.set_random_seed(experiment.seed)
    batches = datasets.Batches(data.x_train, data.y_train, experiment.batch_size, experiment.seed)
    iterations = batches.num_batches
    checkpoints = Checkpoints(run_dir, experiment) if run_dir is not None else None
    asked, found = experiment, None
    if is_auto(experiment.max_lr):
        found = _find(experiment, data, batches, checkpoints, verbose)
        experiment = found.put_into(experiment)
        keras.utils.set_random_seed(experiment.seed)  # The same weights again.
    rate = experiment.learning_rate(iterations)
    model = _build(experiment, data, rate)
    updates = experiment.num_epochs * iterations
    network = model.layers[-1] if experiment.augment else model
    snapshots = None
    if isinstance(rate, CyclicalLearningRate) and rate.policy.cycles_before(updates):
        snapshots = Snapshots(rate, run_dir)  # At least one cycle ends.
    average = None
    if experiment.average:
        cycle = rate if isinstance(rate, CyclicalLearningRate) else None
        average = AveragedWeights(cycle, folder=run_dir)

    started = datetime.now(UTC)
    last_rates = experiment.rates(iterations)[iterations - 1 :: iterations].tolist()

    def log_rate(epoch: int, logs: dict) -> None:
        if isinstance(rate, float):
            _require_rate(logged.model, rate)
        logs.update(learning_rate=last_rates[epoch])

    logged = keras.callbacks.LambdaCallback(on_epoch_end=log_rate)
    kept = [each for each in (snapshots, average) if each is not None]
    in_order = [batches.follow(), logged, *kept, *callbacks]
    history, seconds = _fit(model, batches, data, experiment, in_order, checkpoints, verbose)

    found_out, evaluation = evaluated(model, data, experiment.batch_size, snapshots, average)
    return Run(
        experiment=asked,
        history={plain(name): values for name, values in history.items()},
        iterations_per_epoch=iterations,
        **found_out,
        parameters=network.count_params(),
        examples={"train": len(data.x_train), "test": len(data.x_test)},
        seconds={"train": seconds, **evaluation},
        data=data.source,
        hardware=machine.hardware(),
        versions=machine.versions(),
        commit=commit,
        started=started.isoformat(timespec="seconds"),
        bounds=found,
        model=network,
        average=average,
    )


def _find(
    experiment: Experiment,
    data: datasets.Dataset,
    batches: datasets.Batches,
    checkpoints: Checkpoints | None,
    verbose: bool,
) -> FoundBounds:
    """Returns the bounds of the last checkpoint, or else those of a range test."""
    found, whence = checkpoints and checkpoints.bounds_before(), ", from the checkpoint"
    if found is None:
        # A model of its own: the test sets the rate, and the training run's has a schedule.
        found = bounds.find(experiment, _build(experiment, data, 1.0), batches, verbose)
        whence = ""
    if checkpoints:
        checkpoints.bounds = found
    if verbose:
        print(f"Range test{whence}: {found.in_words(experiment)}", flush=True)
    return found


def _fit(
    model: keras.Model,
    batches: datasets.Batches,
    data: datasets.Dataset,
    experiment: Experiment,
    callbacks: list[keras.callbacks.Callback],
    checkpoints: Checkpoints | None,
    verbose: bool,
) -> tuple[dict[str, list[float]], float]:
    """Trains, from the last checkpoint on, and returns the whole history and its seconds."""
    done = checkpoints.resume(model) if checkpoints else 0
    if verbose and done:
        print(f"going on after epoch {done} of {experiment.num_epochs}", flush=True)
    clock = time.perf_counter()
    with Bar(verbose) as bar:
        last = [Progress(experiment.num_epochs, bar)] if verbose else []
        history = model.fit(
            batches,
            epochs=experiment.num_epochs,
            initial_epoch=done,
            shuffle=False,
            validation_data=(data.x_test, data.y_test),
            validation_batch_size=AT_ONCE,
            callbacks=[*callbacks, *last, *([checkpoints] if checkpoints else [])],
            verbose=0,
        ).history
    if checkpoints:
        return checkpoints.history, checkpoints.seconds
    return history, time.perf_counter() - clock


def _require_rate(model: keras.Model, rate: float) -> None:
    """Raises an error if a callback has set the rate: the run would say another than it had."""
    found = optimizers.rate(model.optimizer)
    if found != float(np.float32(rate)):
        raise ValueError(
            "`callbacks` must leave the rate alone: clr_method='constant' trains with max_lr, and "
            "the run says so. For a cyclical rate choose another clr_method. "
            f"Received: callbacks that set learning_rate={found:g}, where max_lr={rate:g}"
        )


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

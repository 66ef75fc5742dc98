"""The test itself: a training whose rate rises batch by batch, and which leaves no trace."""

import math
import sys
import warnings
from dataclasses import asdict, replace
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from clr import checks, optimizers
from clr.progress import Bar, Clock
from clr.range_test.batches import ended_after, first, is_arrays, one_batch, passes, rewinds
from clr.range_test.building import build, is_built
from clr.range_test.curve import SKIP_FIRST, Average, beta_per_point
from clr.range_test.metrics import accuracy_in
from clr.range_test.resetting import resetter, setter
from clr.range_test.result import RangeTest
from clr.range_test.settings import (
    SCHEDULES,
    Settings,
    check,
    count_or_none,
    empty,
    require_finite,
    require_some,
    stop_factor_or_none,
)
from clr.range_test.trials import trials_around
from clr.range_test.undoing import model_kept, random_states_kept

MOST_VALIDATED = 2000  # Batches of a validation, where nothing tells that it has an end.


def lr_range_test(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    start_lr: float = 1e-7,
    end_lr: float = 1e1,
    num_steps: int | None = None,
    epochs: int | None = None,
    schedule: str = "exponential",
    beta: float = 0.98,
    stop_factor: float | None = 4.0,
    validation_data: Any = None,
    validation_every: int | None = None,
    metric: str | None = None,
    trials: int | None = None,
    verbose: int = 1,
    loss: str = "loss",
    validation_steps: int | None = None,
) -> RangeTest:
    """Trains with a rate that rises batch by batch, records the loss, and puts everything back.

    ```python
    result = lr_range_test(model, x, y, batch_size=64)
    model.fit(x, y, batch_size=64, epochs=20, callbacks=[result.one_cycle()])
    ```

    Then come a few short trainings, the trials: one cycle each, up to the rate that was read off
    the curve (`"edge"`), and by half decades up or down from there while the loss on batches held
    back falls; up to ten times the optimizer's default rate. They show what the curve can't: a rate
    at which a small set is overfitted, or at which a network does not recover from a bad start.
    There are none for a model with a `train_step` of its own that `evaluate` can't judge: it needs
    a `test_step` too, or a compiled loss.

    Afterwards, also if an exception or Ctrl-C ended the test early, the model is bit for bit as it
    was: weights, seeds of dropout and augmentation, metrics, the optimizer's slots, count and
    rate, `steps_per_execution`, compiled functions; and so are the random states of Python, NumPy,
    Keras and its backend. (An optimizer, or a model, that had no variables yet now has them, at
    their initial values. Counters inside TensorFlow's own seeded random operations can't be read,
    and so not put back; Keras's layers don't use those.)

    So are the data, where they are arrays, a `PyDataset`, or made anew by a function. A generator
    is used up (a few batches further than the test went: Keras reads ahead), and a
    `tf.data.Dataset` with a reshuffling `shuffle` goes on to another order: `result.rewound` is
    then `False`. Pass `lambda: make_data()` in their place.

    Args:
        model: A compiled model whose optimizer has a fixed learning rate. The optimizers of a
            `keras.optimizers.MultiOptimizer` move together: the rates of the test are those of the
            one with the highest rate, and every other keeps its ratio to it.
        x: What `fit` takes: arrays, `tf.data.Dataset`, `PyDataset`, a generator (also an endless
            one), ...; or a function without arguments that returns one of these. Where it returns
            generators, it is called again for each pass.
        y: Targets, if `x` is arrays.
        sample_weight: Weights of the examples, if `x` is arrays.
        class_weight: Weights of the classes, as in `fit`.
        batch_size: Examples in a batch, if `x` is arrays. Use that of the training to come: the
            bounds depend on it. Defaults to Keras's 32.
        shuffle: Whether to shuffle arrays' examples or a `PyDataset`'s batches before each pass.
        start_lr: The first batch's rate. Defaults to `1e-7`.
        end_lr: The last batch's rate. Defaults to `10.0`.
        num_steps: Batches from `start_lr` to `end_lr`. Defaults to one epoch's, or 200 if that is
            more, or the epoch's length is unknown.
        epochs: Length of the test in epochs, in place of `num_steps`. Smith takes a few.
        schedule: `"exponential"`, each rate a fixed multiple of the one before (default), or
            `"linear"`, as in Smith's test, where `start_lr` may be 0.
        beta: Weight of the past, per step, in the loss's bias-corrected exponential moving
            average, in [0, 1). Defaults to `0.98`.
        stop_factor: Ends the test when the average exceeds so many times its best, from the tenth
            step on (a loss that is negative at best ends no test). `None` or infinity for no such
            end: a result's file then says `null`. Defaults to `4.0`.
        validation_data: Record the loss on these data instead: what `evaluate` takes, as a tuple
            `(x, y)`, `(x, y, sample_weight)` or a data set; or a function that returns it. Endless
            ones need `validation_steps`.
        validation_every: Steps from one validation to the next; goes with `validation_data`.
        metric: The compiled metric to record as accuracy, such as `"categorical_accuracy"`.
            Defaults to the first of a class of Keras's such as `CategoricalAccuracy`, or whose
            name is `acc` or `accuracy`, or ends with `_acc` or `_accuracy`; to none if there is
            none. A loss is never taken, whatever the name of its output.
        trials: How many short trainings there may be after the test; two to four are the rule.
            Each has half as many steps as the test. 0 for none. Defaults to 6, where the data
            can be passed through more than once and are enough to hold some back; batches of a
            `tf.data.Dataset` are kept in memory meanwhile.
        verbose: 1 for one line at the end and, on a terminal and in an open notebook, a bar until
            then (default), 2 for the line alone, 0 for nothing.
        loss: The name of the loss in what the model reports, where it has a `train_step` of its own
            that calls it `"contrastive_loss"`, say, or where you want the curve of one output.
            Validation data and trials are judged by the same name. Defaults to `"loss"`.
        validation_steps: Batches of each validation. Defaults to all: without it, data of unknown
            length that have not ended after 2000 batches are refused.

    Returns:
        A `RangeTest`: `.suggest()`, `.plot()`, `.save()`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of its range, no data, a model that is not compiled or has
            optimizers of its own, an optimizer built on a `LearningRateSchedule`.

    Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
    section 3.3 (linear rise, accuracy); the exponential rise, averaged loss and stop at four times
    the best come from fastai's learning rate finder.
    """
    settings = Settings(
        start_lr=checks.rate("start_lr", start_lr),
        end_lr=checks.rate("end_lr", end_lr),
        num_steps=count_or_none("num_steps", num_steps, minimum=2),
        epochs=count_or_none("epochs", epochs),
        schedule=checks.choice("schedule", schedule, SCHEDULES),
        beta=checks.share("beta", beta),
        stop_factor=stop_factor_or_none(stop_factor),
        validation_every=count_or_none("validation_every", validation_every),
        batch_size=count_or_none("batch_size", batch_size),
        metric=metric,
        trials=count_or_none("trials", trials, minimum=0),
        loss=loss,
        validation_steps=count_or_none("validation_steps", validation_steps),
    )
    check(model, x, y, settings, validation_data)
    if verbose not in (0, 1, 2):
        raise ValueError(f"`verbose` must be 0, 1 or 2. Received: verbose={verbose!r}")
    built = is_built(model)
    with random_states_kept():
        data = x() if callable(x) else x
        require_some("x", data)
        batch, some = None, (data, y, sample_weight)
        if isinstance(data, GeneratorType):
            batch = next(data, None)
            if batch is None:
                raise empty("x", data)
            data = passes(batch, data, x if callable(x) else None)
        elif not built:
            batch = one_batch(data, y)
            if batch is None:
                raise empty("x", data)
            some = first(some, batch_size or 32) if is_arrays(data) else some
        if not built and isinstance(data, (GeneratorType, keras.utils.PyDataset)):
            some = ((b for b in [batch]), None, None)
        if not built:
            build(model, batch, some, class_weight)
    tested = {
        "model": model.name,
        "optimizer": type(optimizers.inner(model.optimizer)).__name__,
        "default_lr": optimizers.default_rate(model.optimizer),
    }
    clock, bar = Clock(), Bar(verbose == 1)
    rise = _Rise(settings, validation_data, bar)
    shuffles = is_arrays(data) or isinstance(data, keras.utils.PyDataset)
    with (
        random_states_kept(),
        model_kept(model),
        warnings.catch_warnings(),
        ended_after(data) as batches,
        bar,
    ):
        # Running out of data is no accident here, and `stopped` tells it.
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        model.fit(
            batches,
            y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            batch_size=batch_size,
            shuffle=shuffle and shuffles,  # Keras warns if told to shuffle others.
            epochs=1 if isinstance(data, GeneratorType) else sys.maxsize,  # The callback stops it.
            callbacks=[rise],
            verbose=0,
        )
    if rise.step == 0:
        raise empty("x", x)
    result = RangeTest(
        lrs=rise.lrs,
        losses=rise.losses,
        accuracies=rise.accuracies or None,
        stopped=rise.stopped,
        rewound=rewinds(data) or _makes_anew(x, data),
        config=asdict(rise.settings) | tested,
    )
    edge = result.suggestions().get("edge")
    if edge is not None and settings.trials != 0 and not isinstance(x, GeneratorType):
        result.trials = trials_around(
            edge.max_lr,
            model,
            (x, y, sample_weight),
            class_weight,
            batch_size=settings.batch_size,
            steps=len(rise.rates),
            most=settings.trials,
            loss=settings.loss,
            bar=bar,
        )
    if verbose:
        tried = len(result.trials or [()]) - 1  # The first is the loss before any training.
        made = f"{rise.step} of {len(rise.rates)} steps ({rise.stopped})"
        print(f"Range test: {made}, {tried} trials, {clock}", flush=True)
    return result


def _makes_anew(x: Any, data: Any) -> bool:
    """Tells whether `x` is a function that makes other data than these when it is called again."""
    if not callable(x):
        return False
    with random_states_kept():
        return x() is not data


class _Rise(keras.callbacks.Callback):
    """Sets each batch's rate, records its loss, and stops the training when enough is seen."""

    def __init__(self, settings: Settings, validation_data: Any, bar: Bar):
        super().__init__()
        self.settings, self.validation_data, self.bar = settings, validation_data, bar
        self.every, self.metric = settings.validation_every, settings.metric
        self.average = Average(beta_per_point(settings.beta, self.every or 1))
        self.best = math.inf
        self.step = 0
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.stopped = "data ended"

    def on_train_begin(self, logs: dict | None = None) -> None:
        steps = self.settings.steps(self.params.get("steps"))
        self.settings = replace(self.settings, num_steps=steps)
        space = np.geomspace if self.settings.schedule == "exponential" else np.linspace
        self.rates = space(self.settings.start_lr, self.settings.end_lr, steps).tolist()
        self.set_rate = setter(self.model, self.rates)
        self.reset_metrics = resetter(self.model)
        self.bar.begin("range test", steps)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.steps_before = self.step

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        model = self.model  # Each time: on JAX this brings its variables up to date.
        self.set_rate(model, self.step)
        # Metrics are running means over an epoch; begun anew they hold this batch alone.
        self.reset_metrics(model)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        rate = self.rates[self.step]
        self.step += 1
        last = self.step == len(self.rates)
        logs = logs or {}
        loss = self._loss(logs, "train_step")
        if last:
            self.stopped = "end_lr reached"
        if not math.isfinite(loss):
            self.stopped = "loss not finite"
        elif not self.every or self.step % self.every == 0:
            self._record(rate, self._validate() if self.every else logs)
        if self.stopped != "data ended":
            self.model.stop_training = True
        self.bar.update(self.step, f"loss {loss:.4g}, rate {rate:.2g}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.step == self.steps_before:  # Data that can be passed through only once.
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.stopped == "data ended" and self.step:
            warnings.warn(
                f"The data ended after {self.step} of {len(self.rates)} steps, at rate "
                f"{self.rates[self.step - 1]:.2g} of {self.settings.end_lr:.2g}. Pass "
                f"num_steps={self.step}, or a function that makes the data anew for each pass.",
                stacklevel=2,
            )

    def _loss(self, logs: dict, step: str) -> float:
        name = self.settings.loss
        if name not in logs:
            raise ValueError(
                f"`loss` must be the name under which `model.{step}` returns its loss: one of "
                f"{', '.join(sorted(logs))}. Received: loss={name!r}"
            )
        return float(logs[name])

    def _record(self, rate: float, logs: dict) -> None:
        loss = self._loss(logs, "test_step" if self.every else "train_step")
        if not math.isfinite(loss):
            self.stopped = "loss not finite"
            return
        if not self.lrs and self.settings.metric is None:
            self.metric = accuracy_in(self.model, logs)
        if self.metric is not None and self.metric not in logs:
            raise ValueError(
                f"`metric` must be one of {', '.join(sorted(logs))}: the metrics that the model "
                f"was compiled with. Received: metric={self.metric!r}"
            )
        self.lrs.append(rate)
        self.losses.append(loss)
        if self.metric is not None:
            self.accuracies.append(float(logs[self.metric]))
        average, factor = self.average(loss), self.settings.stop_factor
        if self.step >= SKIP_FIRST:  # Before, one lucky batch would pass for the best.
            self.best = min(self.best, average)
            if factor is not None and 0 < self.best * factor < average:
                self.stopped = "loss diverged"

    def _validate(self) -> dict[str, float]:
        data = self.validation_data() if callable(self.validation_data) else self.validation_data
        if callable(self.validation_data):
            require_finite(data, self.settings.validation_steps)
        if isinstance(data, GeneratorType):
            batch = next(data, None)
            if batch is None:
                raise empty("validation_data", data)
            data = passes(batch, data, None)
        of_arrays = isinstance(data, (tuple, list))
        x, y, weights = (
            keras.utils.unpack_x_y_sample_weight(data) if of_arrays else (data, None, None)
        )
        steps = self.settings.validation_steps
        try:
            logs = self.model.evaluate(
                x,
                y,
                sample_weight=weights,
                batch_size=self.settings.batch_size,
                steps=steps,
                callbacks=[] if is_arrays(data) or steps else [_Guard()],
                return_dict=True,
                verbose=0,
            )
        except Exception as error:
            kind = type(self.model)
            own = optimizers.has_own_step(self.model) and optimizers.is_keras(kind.test_step)
            if not own or isinstance(error, _Endless):
                raise
            raise ValueError(
                "`validation_data` need a model that can be evaluated. This one has a `train_step` "
                f"of its own and Keras's `test_step`, which failed: {error}"
            ) from error
        if not logs:
            raise empty("validation_data", data)
        if keras.backend.backend() == "torch":
            self.model.train()  # `fit` says it once an epoch, `evaluate` takes it back.
        return logs


class _Endless(ValueError):
    """A validation that does not end."""


class _Guard(keras.callbacks.Callback):
    """Ends a validation on data that seem to have no end."""

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.known = (self.params or {}).get("steps") is not None

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not self.known and batch >= MOST_VALIDATED:
            raise _Endless(
                f"`validation_data` of unknown length have not ended after {batch} batches. Pass "
                "validation_steps, the batches of a validation. Received: validation_steps=None"
            )

"""The learning rate range test: raise the rate batch by batch, and read the bounds off the loss."""

import json
import math
import os
import random
import sys
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

# Private, for want of a public way to look at Keras's global seed generator without creating it.
from keras.src.backend.common import global_state

from clr import checks, optimizers
from clr.files import read_json, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEDULES = ("exponential", "linear")
FEWEST_STEPS = 300  # By default; over the default eleven decades, 27 to a decade.
SKIP_FIRST = 10  # Steps not read: the average holds too few batches yet.
SKIP_LAST = 1  # Nor is the point at which the loss blew up.
FEWEST_POINTS = 5  # To read.

SMITH = "Smith (2017), arXiv:1506.01186, section 3.3"
SOURCES = {
    "steepest": f"max_lr: fastai, callback/schedule.py, `steep`; base_lr: {SMITH}",
    "valley": f"max_lr: fastai, callback/schedule.py, `valley`; base_lr: {SMITH}",
    "minimum": f"max_lr: fastai, callback/schedule.py, `minimum`; base_lr: {SMITH}",
    "accuracy": SMITH,
}


@dataclass(frozen=True)
class Suggestion:
    """Bounds read off a range test. Unpacks into the two: `base_lr, max_lr = result.suggest()`.

    Attributes:
        base_lr: Lower bound.
        max_lr: Upper bound.
        method: How they were read.
        source: Where the method comes from.
    """

    base_lr: float
    max_lr: float
    method: str
    source: str

    def __iter__(self) -> Iterator[float]:
        return iter((self.base_lr, self.max_lr))

    def __getitem__(self, index: Any) -> Any:
        return (self.base_lr, self.max_lr)[index]


@dataclass(repr=False)
class RangeTest:
    """What a range test found: the curve, and how it was made. Printed, it is one sentence.

    Attributes:
        lrs: The rates, one a point of the curve.
        losses: The batch's own loss at that rate, before its update; with `validation_data` the
            validation loss after it. All finite: a loss that is not ends the test and is left out.
        accuracies: The batch's, or the validation data's, own accuracy; `None` without a metric.
        stopped: Why it ended: `"end_lr reached"`, `"loss diverged"`, `"loss not finite"` or
            `"data ended"`.
        rewound: Whether the data are as they were, too; see `lr_range_test`.
        config: The arguments in force, and the names of model and optimizer.
    """

    lrs: list[float]
    losses: list[float]
    accuracies: list[float] | None
    stopped: str
    rewound: bool
    config: dict[str, Any]

    FORMAT = "clr-range-test/1"

    def __repr__(self) -> str:
        reach = f"from {self.lrs[0]:.1e} to {self.lrs[-1]:.1e}" if self.lrs else "none finite"
        return (
            f"RangeTest: {len(self.lrs)} points {reach}, of {self.config['num_steps']} steps "
            f"planned; {self.stopped}; model and optimizer are as before, "
            + ("so are the data" if self.rewound else "the data can't be rewound")
        )

    @property
    def smoothed(self) -> np.ndarray:
        """The losses' bias-corrected moving average, in float64, one a point."""
        return self._smooth(self.losses)

    def suggest(self, method: str = "valley") -> Suggestion:
        """Returns bounds for `CyclicLR`, read off the smoothed curve: `CyclicLR(*suggestion, ...)`.

        The first ten steps and the last point are not read. `max_lr` is, by method:

        - `"steepest"`: where the loss falls fastest over the rate's logarithm (fastai's `steep`,
          once the descent has begun). Too high if a decade has fewer steps than the average spans.
        - `"valley"`: halfway along the longest descent (fastai's `valley`).
        - `"minimum"`: a tenth of the rate at which the loss is lowest (fastai's `minimum`).
        - `"accuracy"`: where the accuracy has made 95 % of its climb: it slows, turns ragged or
          falls from there on (Smith's reading of the linear test).

        `base_lr` is where the curve has made a tenth of its way: the loss begins to fall, the
        accuracy to climb. Where that is near to a loss method's `max_lr`, or above, it is a quarter
        of `max_lr` instead, Smith's rule of thumb.

        Args:
            method: One of these. Defaults to `"valley"`, as fastai's does: it differs least from
                run to run.

        Raises:
            ValueError: The curve holds no answer: it is too short, flat, or never falls.

        Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
        section 3.3; github.com/fastai/fastai, fastai/callback/schedule.py.
        """
        checks.choice("method", method, tuple(SOURCES))
        if method == "accuracy":
            if self.accuracies is None:
                raise ValueError(
                    "`method='accuracy'` needs a curve of accuracies, and there is none. Compile "
                    "the model with metrics=['accuracy'], or name another: "
                    "lr_range_test(metric=...)."
                )
            lrs, _, way = self._way(self.accuracies, "accuracy", "climbs", -1)
            begin = np.flatnonzero(way <= 0.1)[-1]
            base_lr, max_lr = lrs[begin], lrs[np.argmax(way >= 0.95)]
        else:
            lrs, curve, way = self._way(self.losses, "loss", "falls")
            begin = np.flatnonzero(way <= 0.1)[-1]
            if method == "steepest":
                # Not before the descent, where the average of few batches makes steps of its own.
                slopes = np.diff(curve[begin:]) / np.diff(np.log(lrs[begin:]))
                max_lr = lrs[begin + slopes.argmin()]
            elif method == "valley":
                max_lr = lrs[_mid_valley(curve)]
            else:
                max_lr = lrs[-1] / 10
            base_lr = min(lrs[begin], max_lr / 4)
        return Suggestion(float(base_lr), float(max_lr), method, SOURCES[method])

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the loss over the rate, raw (faint) and smoothed, and marks what `suggest` says.

        A dot for each method's `max_lr`, and a band from `base_lr` to `max_lr` for the default
        method's. The first ten steps and the last point are left out.

        Args:
            ax: Axes to draw into. Defaults to new ones.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(layout="constrained")[1]
        lrs, curve = self._readable(self.smoothed)
        ax.plot(lrs, self._readable(self.losses)[1], "C0", alpha=0.3, label="batch")
        ax.plot(lrs, curve, "C0", label="smoothed")
        for colour, method in enumerate(("steepest", "valley", "minimum"), start=1):
            try:
                found = self.suggest(method)
            except ValueError:  # A curve without an answer is worth looking at all the more.
                break
            label = f"{method}: {found.base_lr:.1e} to {found.max_lr:.1e}"
            height = np.interp(found.max_lr, lrs, curve)
            ax.plot(found.max_lr, height, "o", color=f"C{colour}", label=label)
            if method == "valley":
                ax.axvspan(*found, color=f"C{colour}", alpha=0.12)
        if len(curve):
            # Not to the raw curve's top: one batch of a diverging net would flatten all the rest.
            ax.set_ylim(top=curve.max() + (0.1 * np.ptp(curve) or 1.0))
            if curve.min() >= 0:
                ax.set_ylim(bottom=max(0, ax.get_ylim()[0]))  # The margin would go below.
        ax.set(
            xlabel="learning rate",
            ylabel="validation loss" if self.config["validation_every"] else "loss",
            xscale="log" if self.config["schedule"] == "exponential" else "linear",
        )
        ax.legend()
        return ax

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Returns the result as JSON, and writes it to a file, whole or not at all.

        Args:
            path: File to write. Defaults to none.
        """
        text = json.dumps({"format": self.FORMAT, **asdict(self)}, indent=1) + "\n"
        if path is not None:
            write_atomically(Path(path), text.encode())
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "RangeTest":
        """Returns the result that `to_json` wrote.

        Raises:
            FileNotFoundError: No such file.
            ValueError: The file is damaged, or is not a range test's.
        """
        with read_json(path, cls.FORMAT, "a range test that RangeTest.to_json wrote") as values:
            result = cls(**values)
            curves = [c for c in (result.lrs, result.losses, result.accuracies) if c is not None]
            if len({len(curve) for curve in curves}) != 1:
                raise ValueError("the curves differ in length")
            if not all(isinstance(value, float) for curve in curves for value in curve):
                raise ValueError("a curve holds something other than numbers")
            repr(result), result.smoothed, result._skip_first  # Touches all that must be there.
        return result

    @property
    def _skip_first(self) -> int:
        return math.ceil(SKIP_FIRST / (self.config["validation_every"] or 1))

    def _smooth(self, values: list[float]) -> np.ndarray:
        average = _Average(_beta(self.config))
        return np.array([average(value) for value in values])

    def _readable(self, curve: Any) -> tuple[np.ndarray, np.ndarray]:
        window = slice(self._skip_first, -SKIP_LAST)
        return np.array(self.lrs)[window], np.array(curve)[window]

    def _way(
        self, values: list[float], name: str, verb: str, sign: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rates, smoothed values and the share of the way down, as far as the lowest."""
        lrs, curve = self._readable(sign * self._smooth(values))
        if len(lrs) < FEWEST_POINTS:
            raise ValueError(
                f"The curve is too short to read: {len(self.lrs)} points, of which the first "
                f"{self._skip_first} and the last are not read. It ended because: {self.stopped}. "
                "Raise num_steps; if the loss diverged or was not finite, lower start_lr, and look "
                "at the data for NaN."
            )
        low = int(curve.argmin())
        # The plateau before the descent. Its median, as the average's first values stray.
        plateau = curve[: low // 2 + 1]
        start = float(np.median(plateau))
        # How far the average strays at the lowest point: the single batches' spread, less what
        # their weights in it even out.
        spread = float(np.std(values[: self._skip_first + len(plateau)]))
        weights = _beta(self.config) ** np.arange(self._skip_first + low + 1)
        noise = spread * float(np.linalg.norm(weights) / weights.sum())
        if low < FEWEST_POINTS or start - curve[low] <= max(0.01 * abs(start), 4 * noise):
            raise ValueError(
                f"The {name} never {verb} beyond its own noise: from {sign * start:.4g} to "
                f"{sign * curve[low]:.4g} at best, between rates {lrs[0]:.1e} and {lrs[-1]:.1e}. "
                "If the curve is flat, raise end_lr or num_steps; if it only gets worse, lower "
                "start_lr. If neither helps, does the model learn at any rate?"
            )
        way = (start - curve[: low + 1]) / (start - curve[low])
        return lrs[: low + 1], curve[: low + 1], way


def lr_range_test(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    start_lr: float = 1e-10,
    end_lr: float = 1e1,
    num_steps: int | None = None,
    epochs: int | None = None,
    schedule: str = "exponential",
    beta: float = 0.98,
    stop_factor: float = 4.0,
    validation_data: Any = None,
    validation_every: int | None = None,
    metric: str | None = None,
    verbose: int = 1,
) -> RangeTest:
    """Trains with a rate that rises batch by batch, records the loss, and puts everything back.

    ```python
    result = lr_range_test(model, x_train, y_train, batch_size=64)
    result.plot()
    base_lr, max_lr = result.suggest()
    model.fit(x_train, y_train, callbacks=[CyclicLR(base_lr, max_lr, step_size=2000)])
    ```

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
        model: A compiled model whose optimizer has a fixed learning rate.
        x: What `fit` takes: arrays, `tf.data.Dataset`, `PyDataset`, a generator (also an endless
            one), ...; or a function without arguments that returns one of these. Where it returns
            generators, it is called again for each pass.
        y: Targets, if `x` is arrays.
        sample_weight: Weights of the examples, if `x` is arrays.
        class_weight: Weights of the classes, as in `fit`.
        batch_size: Examples in a batch, if `x` is arrays. Use that of the training to come: the
            bounds depend on it. Defaults to Keras's 32.
        shuffle: Whether to shuffle arrays' examples or a `PyDataset`'s batches before each pass.
        start_lr: The first batch's rate. Defaults to `1e-10`.
        end_lr: The last batch's rate. Defaults to `10.0`.
        num_steps: Batches from `start_lr` to `end_lr`. Defaults to one epoch's, or 300 if that is
            more, or the epoch's length is unknown.
        epochs: Length of the test in epochs, in place of `num_steps`. Smith takes a few.
        schedule: `"exponential"`, each rate a fixed multiple of the one before (default), or
            `"linear"`, as in Smith's test, where `start_lr` may be 0.
        beta: Weight of the past, per step, in the loss's bias-corrected exponential moving
            average, in [0, 1). Defaults to `0.98`.
        stop_factor: Ends the test when the average exceeds so many times its best, from the tenth
            step on (a loss that is negative at best ends no test). Defaults to `4.0`.
        validation_data: Record the loss on these data instead: what `evaluate` takes, as a tuple
            `(x, y)`, `(x, y, sample_weight)` or a data set; or a function that returns it. It must
            be finite.
        validation_every: Steps from one validation to the next; goes with `validation_data`.
        metric: The compiled metric to record as accuracy, such as `"categorical_accuracy"`.
            Defaults to the first with `acc` in its name, if any.
        verbose: 1 for a progress bar (default), 2 for one line at the end, 0 for nothing.

    Returns:
        A `RangeTest`: `.suggest()`, `.plot()`, `.to_json()`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of its range, a model that is not compiled, an optimizer built
            on a `LearningRateSchedule`.

    Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
    section 3.3 (linear rise, accuracy); the exponential rise, averaged loss and stop at four times
    the best come from fastai's learning rate finder.
    """
    config = {
        "start_lr": checks.rate("start_lr", start_lr),
        "end_lr": checks.rate("end_lr", end_lr),
        "num_steps": _count_or_none("num_steps", num_steps, minimum=2),
        "epochs": _count_or_none("epochs", epochs),
        "schedule": checks.choice("schedule", schedule, SCHEDULES),
        "beta": checks.share("beta", beta),
        "stop_factor": checks.above("stop_factor", stop_factor, limit=1),
        "validation_every": _count_or_none("validation_every", validation_every),
        "batch_size": _count_or_none("batch_size", batch_size),
        "metric": metric,
    }
    _check(model, x, config, validation_data)
    if verbose not in (0, 1, 2):
        raise ValueError(f"`verbose` must be 0, 1 or 2. Received: verbose={verbose!r}")
    config |= {"model": model.name, "optimizer": type(optimizers.inner(model.optimizer)).__name__}

    built = _is_built(model)
    with _random_states_kept():
        data = x() if callable(x) else x
        batch = None
        if isinstance(data, GeneratorType):
            batch = next(data, None)
            if batch is None:
                raise ValueError("`x` must yield at least one batch. Received: an empty generator")
            data = _passes(batch, data, x if callable(x) else None)
        elif not built:
            batch = _one_batch(data, y)
    if not built:
        _build(model, batch)
    sweep = _Sweep(config, validation_data, verbose)
    shuffles = _is_arrays(data) or isinstance(data, keras.utils.PyDataset)
    with _random_states_kept(), _model_kept(model), warnings.catch_warnings():
        # Running out of data is no accident here, and `stopped` tells it.
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        model.fit(
            data,
            y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            batch_size=batch_size,
            shuffle=shuffle and shuffles,  # Keras warns if told to shuffle others.
            epochs=1 if isinstance(data, GeneratorType) else sys.maxsize,  # The sweep stops it.
            callbacks=[sweep],
            verbose=0,
        )
    return RangeTest(
        lrs=sweep.lrs,
        losses=sweep.losses,
        accuracies=sweep.accuracies or None,
        stopped=sweep.stopped,
        rewound=not isinstance(x, GeneratorType) and not _reshuffles(x),
        config=config,
    )


def _beta(config: dict[str, Any]) -> float:
    # `beta` is meant for a training step; a point of a validation curve stands for several.
    return config["beta"] ** (config["validation_every"] or 1)


class _Average:
    """A bias-corrected exponential moving average, one value at a time."""

    def __init__(self, beta: float):
        self.beta, self.sum, self.count = beta, 0.0, 0

    def __call__(self, value: float) -> float:
        self.count += 1
        self.sum = self.beta * self.sum + (1 - self.beta) * value
        return self.sum / (1 - self.beta**self.count)


class _Sweep(keras.callbacks.Callback):
    """Sets each batch's rate, records its loss, and stops the training when enough is seen."""

    def __init__(self, config: dict[str, Any], validation_data: Any, verbose: int):
        super().__init__()
        self.config, self.validation_data, self.verbose = config, validation_data, verbose
        self.every = config["validation_every"]
        self.average = _Average(_beta(config))
        self.best = math.inf
        self.step = 0
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.stopped = "data ended"

    def on_train_begin(self, logs: dict | None = None) -> None:
        epoch, config = self.params.get("steps"), self.config
        if config["epochs"] is not None:
            if epoch is None:
                raise ValueError(
                    "`epochs` needs data whose length is known. Pass num_steps instead. "
                    f"Received: epochs={config['epochs']!r} and data of unknown length"
                )
            config["num_steps"] = max(2, config["epochs"] * epoch)
        elif config["num_steps"] is None:
            config["num_steps"] = max(epoch or 0, FEWEST_STEPS)
        space = np.geomspace if config["schedule"] == "exponential" else np.linspace
        self.rates = space(config["start_lr"], config["end_lr"], config["num_steps"]).tolist()
        self.progress = keras.utils.Progbar(
            len(self.rates), verbose=self.verbose, stateful_metrics=["loss", "learning_rate"]
        )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.steps_before = self.step

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        optimizers.set_rate(self.model, self.rates[self.step])
        # Metrics are running means over an epoch; begun anew they hold this batch alone.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        rate = self.rates[self.step]
        self.step += 1
        last = self.step == len(self.rates)
        logs = logs or {}
        if "loss" not in logs:
            raise ValueError(
                "`model.train_step` must return its loss under the name 'loss'. "
                f"Received: {sorted(logs)}"
            )
        if last:
            self.stopped = "end_lr reached"
        if not math.isfinite(logs["loss"]):
            self.stopped = "loss not finite"
        elif not self.every or self.step % self.every == 0:
            self._record(rate, self._validate() if self.every else logs)
        stop = self.stopped != "data ended"
        if stop:
            self.model.stop_training = True
        shown = [("loss", logs["loss"]), ("learning_rate", rate)]
        self.progress.update(self.step, shown, finalize=stop)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.step == self.steps_before:  # Data that can be passed through only once.
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.stopped == "data ended":
            warnings.warn(
                f"The data ended after {self.step} of {len(self.rates)} steps, at rate "
                f"{self.rates[max(self.step - 1, 0)]:.1e} of {self.config['end_lr']:.1e}. Pass "
                f"num_steps={self.step}, or a function that makes the data anew for each pass.",
                stacklevel=2,
            )

    def _record(self, rate: float, logs: dict) -> None:
        if not math.isfinite(logs["loss"]):
            self.stopped = "loss not finite"
            return
        self.lrs.append(rate)
        self.losses.append(logs["loss"])
        metric = self.config["metric"]
        if metric is None:
            metric = next((name for name in logs if "acc" in name), None)
        elif metric not in logs:
            raise ValueError(
                f"`metric` must be one of {', '.join(sorted(logs))}: the metrics that the model "
                f"was compiled with. Received: metric={metric!r}"
            )
        if metric is not None:
            self.accuracies.append(logs[metric])
        average = self.average(logs["loss"])
        if self.step >= SKIP_FIRST:  # Before, one lucky batch would pass for the best.
            self.best = min(self.best, average)
            if 0 < self.best * self.config["stop_factor"] < average:
                self.stopped = "loss diverged"

    def _validate(self) -> dict[str, float]:
        data = self.validation_data() if callable(self.validation_data) else self.validation_data
        of_arrays = isinstance(data, (tuple, list))
        x, y, weights = (
            keras.utils.unpack_x_y_sample_weight(data) if of_arrays else (data, None, None)
        )
        logs = self.model.evaluate(
            x,
            y,
            sample_weight=weights,
            batch_size=self.config["batch_size"],
            return_dict=True,
            verbose=0,
        )
        if keras.backend.backend() == "torch":
            self.model.train()  # `fit` says it once an epoch, `evaluate` takes it back.
        return logs


def _count_or_none(name: str, value: Any, minimum: int = 1) -> int | None:
    return None if value is None else checks.count(name, value, minimum=minimum)


def _check(model: Any, x: Any, config: dict[str, Any], validation_data: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: model={model!r}")
    if not model.compiled:
        raise ValueError(
            f"`model` must be compiled: call model.compile(...) first. Received: {model.name!r}"
        )
    optimizers.require_fixed_rate(
        model.optimizer,
        "`model` must have an optimizer",
        "Compile with a fixed rate, test, and compile anew with the schedule.",
    )
    if x is None:
        raise ValueError("`x` must be the training data, as for `fit`. Received: x=None")
    if config["schedule"] == "exponential" and config["start_lr"] == 0:
        raise ValueError(
            "`start_lr` must be above 0 for an exponential rise. "
            f"Received: start_lr={config['start_lr']!r}"
        )
    if config["end_lr"] <= config["start_lr"]:
        raise ValueError(
            "`end_lr` must be above `start_lr`. "
            f"Received: end_lr={config['end_lr']!r}, start_lr={config['start_lr']!r}"
        )
    if config["num_steps"] is not None and config["epochs"] is not None:
        raise ValueError(
            "`num_steps` and `epochs` say the same thing: pass one. "
            f"Received: num_steps={config['num_steps']!r}, epochs={config['epochs']!r}"
        )
    if config["metric"] is not None and not isinstance(config["metric"], str):
        raise TypeError(
            f"`metric` must be a metric's name, or None. Received: metric={config['metric']!r}"
        )
    if (validation_data is None) != (config["validation_every"] is None):
        raise ValueError(
            "`validation_data` and `validation_every` go together. Received: validation_data "
            f"of type {type(validation_data).__name__}, "
            f"validation_every={config['validation_every']!r}"
        )
    if isinstance(validation_data, GeneratorType):
        raise ValueError(
            "`validation_data` must be data that can be passed through more than once. Received a "
            "generator: pass the function that makes it."
        )


def _is_arrays(data: Any) -> bool:
    return isinstance(data, (dict, list, tuple)) or hasattr(data, "shape")


def _one_batch(data: Any, y: Any) -> Any:
    if _is_arrays(data):

        def first(array: Any) -> Any:
            return array[:1] if hasattr(array, "dtype") else np.asarray(array[:1])

        return keras.tree.map_structure(first, (data, y), none_is_leaf=False)
    return data[0] if isinstance(data, keras.utils.PyDataset) else next(iter(data))


def _passes(first: Any, rest: Iterator, make: Callable[[], Iterator] | None) -> Iterator:
    """Yields a generator's batches, and then those of each further one that `make` makes."""
    yield first
    yield from rest
    while make is not None:
        batches = make()
        first = next(batches, None)
        if first is None:  # The same one again, say, and used up.
            return
        yield first
        yield from batches


def _reshuffles(data: Any) -> bool:
    """Tells whether a `tf.data.Dataset` has a shuffle step that changes from pass to pass."""
    # Private: tf.data has no public way to look at a pipeline. Other data have no such method.
    inputs = getattr(data, "_inputs", None)
    if not callable(inputs):
        return False
    if "Shuffle" in type(data).__name__ and getattr(data, "_reshuffle_each_iteration", True):
        return True
    return any(_reshuffles(source) for source in inputs())


def _is_built(model: keras.Model) -> bool:
    parts = [model, model.optimizer, *model.metrics]
    return all(getattr(part, "built", True) for part in parts)


def _build(model: keras.Model, batch: Any) -> None:
    """Creates what variables model, optimizer and metrics lack, as `fit` would."""

    def symbol(array: Any) -> keras.KerasTensor:
        dtype = keras.backend.standardize_dtype(array.dtype)
        return keras.KerasTensor((None, *array.shape[1:]), dtype)

    # Under tf.distribute variables must be made in the model's own scope.
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else nullcontext():
        # Private, but `fit`'s own way: on some backends it moves the seeds on, and so must this.
        model._symbolic_build(
            data_batch=keras.tree.map_structure(symbol, batch, none_is_leaf=False)
        )


@contextmanager
def _model_kept(model: keras.Model) -> Iterator[None]:
    """Puts a model, its optimizer, metrics and compiled settings back as they were."""
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    values = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    names = ("steps_per_execution", "train_function", "test_function", "stop_training", "history")
    settings = {name: getattr(model, name) for name in names if hasattr(model, name)}
    training = getattr(model, "training", None)  # PyTorch's, which its own layers go by.
    if model.steps_per_execution != 1:
        model.steps_per_execution = 1
        model.train_function = model.test_function = None
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for name in names:
            if name in settings:
                setattr(model, name, settings[name])
            elif hasattr(model, name):
                delattr(model, name)
        if training is not None:
            model.train(training)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Puts the random states of Python, NumPy, Keras and its backend back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    generator = global_state.get_global_attribute("global_seed_generator")
    seed = generator and np.array(keras.ops.convert_to_numpy(generator.state))
    put_back = [keep() for module, keep in BACKENDS.items() if module in sys.modules]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        global_state.set_global_attribute("global_seed_generator", generator)
        if generator:
            generator.state.assign(seed)
        for restore in put_back:
            restore()


def _keep_tensorflow() -> Callable[[], None]:
    # Private: TensorFlow lets its seeds be set, but not read.
    from tensorflow.python.eager.context import context
    from tensorflow.python.ops import stateful_random_ops

    seeds = getattr(context(), "_rng", None)
    state = seeds and seeds.getstate()
    generator = stateful_random_ops.global_generator
    numbers = generator and generator.state.numpy()

    def put_back() -> None:
        if seeds:
            seeds.setstate(state)
        stateful_random_ops.global_generator = generator
        if generator:
            generator.state.assign(numbers)

    return put_back


def _keep_torch() -> Callable[[], None]:
    import torch

    cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all()

    def put_back() -> None:
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)

    return put_back


# JAX has no random state of its own; TensorFlow's shuffles tf.data under any backend.
BACKENDS = {"tensorflow": _keep_tensorflow, "torch": _keep_torch}


def _mid_valley(losses: np.ndarray) -> int:
    """Returns the index halfway along the longest falling subsequence."""
    tails: list[float] = []  # The highest possible ends, negated, of such ones by their length.
    lengths = []
    for loss in losses:
        at = bisect_left(tails, -loss)
        tails[at : at + 1] = [-loss]
        lengths.append(at + 1)
    end = int(np.argmax(lengths))
    third = lengths[end] / 3
    # fastai's arithmetic: as if the subsequence stood in one piece, a third and half a third on.
    return max(end - lengths[end], 0) + int(third) + int(third / 2)

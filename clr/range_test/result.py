"""What a range test found: it prints, suggests, plots and saves itself."""

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clr import checks, plots
from clr.callback import CyclicLR, OneCycleLR
from clr.files import json_text, read_json, write_atomically
from clr.range_test.curve import Curve
from clr.range_test.reading import DEFAULT, READINGS, Bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Suggestion:
    """Bounds read off a range test. Unpacks into the two: `base_lr, max_lr = result.suggest()`.

    Attributes:
        base_lr: Lower bound.
        max_lr: Upper bound.
        method: How they were read.
        source: Where the method comes from.
        warning: Why the bounds should not be trusted as they are, and what to do; `None` if there
            is nothing to warn of.
        marks: The rates that the bounds were read from, by name: of `"edge"`, `"plateau"` (its
            end), `"reach"` (nine tenths of the descent made), `"low"` and `"edge"`.
    """

    base_lr: float
    max_lr: float
    method: str
    source: str
    warning: str | None = None
    marks: Mapping[str, float] = field(default_factory=dict, compare=False)

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
        config: The arguments in force, the names of model and optimizer, and the rate that such an
            optimizer has if none is named.
        trials: The trials, in the order they were made, as `[rate, loss]`: the highest rate of a
            short training, and the loss afterwards on batches held back, `None` where it was not
            finite. The first, at rate 0, is the loss without any training. `None` without trials.
    """

    lrs: list[float]
    losses: list[float]
    accuracies: list[float] | None
    stopped: str
    rewound: bool
    config: dict[str, Any]
    trials: list[tuple[float, float | None]] | None = None

    FORMAT = "clr-range-test/1"

    def __repr__(self) -> str:
        reach = f"from {self.lrs[0]:.2g} to {self.lrs[-1]:.2g}" if self.lrs else "none finite"
        no_stop = "stop_factor" in self.config and self.config["stop_factor"] is None
        stopped = self.stopped + (", stop at divergence off" if no_stop else "")
        return (
            f"RangeTest: {len(self.lrs)} points {reach}, of {self.config['num_steps']} steps "
            f"planned; {stopped}; model and optimizer are as before, "
            + ("so are the data" if self.rewound else "the data can't be rewound")
        )

    @property
    def smoothed(self) -> np.ndarray:
        """The losses' bias-corrected moving average, in float64, one a point."""
        return self._curve("loss").smoothed()

    @property
    def averaged(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates and losses, averaged without a lag, as `"edge"` reads them; see `Curve.centred`."""
        centred = self._curve("loss").centred()
        return centred.lrs, centred.average

    @property
    def window(self) -> slice:
        """The points that are read, without the first ten steps and the last point."""
        return self._curve("loss").window

    @property
    def default_method(self) -> str:
        """How `suggest` reads the bounds if it is not told how."""
        with suppress(ValueError):
            return self._read("trials").method
        return DEFAULT

    def suggest(self, method: str | None = None) -> Suggestion:
        """Returns bounds for `CyclicLR` and `OneCycleLR`: `base_lr, max_lr = result.suggest()`.

        `max_lr` is, by method:

        - `"trials"`: the rate of the best trial. Its `base_lr` is a tenth of `max_lr`. It warns
          where the best trial was the one at the lowest rate.

        - `"steepest"`: where the loss falls fastest over the rate's logarithm (fastai's `steep`,
          once the descent has begun). Too high if a decade has fewer steps than the average spans.
        - `"valley"`: halfway along the longest descent (fastai's `valley`).
        - `"minimum"`: a tenth of the rate at which the loss is lowest (fastai's `minimum`).
        - `"edge"`: a third of the rate at which the loss begins to rise again, and at most ten
          times the rate at which nine tenths of its fall are made (our own rule, measured by
          `benchmarks/bounds.py`). It reads every step but the last, averaged without a lag. Its
          `base_lr` is a tenth of `max_lr`. It warns where the test ended before a rise, where it
          had few steps, and where the loss only rises, after a plateau.
        - `"accuracy"`: where the accuracy has made 95% of its climb: it slows, turns ragged or
          falls from there on (Smith's reading of the linear test).

        The other methods do not read the first ten steps and the last point. Their `base_lr` is
        where the curve has made a tenth of its way: the loss begins to fall, the accuracy to climb.
        Where that is near to a loss method's `max_lr`, or above, it is a quarter of `max_lr`
        instead, Smith's rule of thumb.

        Args:
            method: One of these. Defaults to `"trials"` where there were any and one of them
                learned, and else to `"edge"`.

        Raises:
            ValueError: The curve holds no answer: it is too short, flat, or never falls.

        Warns:
            UserWarning: The suggestion should not be trusted as it is; it says what to do.

        Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
        section 3.3; github.com/fastai/fastai, fastai/callback/schedule.py.
        """
        return self._suggest(method, stacklevel=3)

    def one_cycle(self, *, method: str | None = None, **kwargs: Any) -> OneCycleLR:
        """Returns a `OneCycleLR` with the suggested `max_lr`. It spans the `fit` it is in.

        ```python
        model.fit(x, y, batch_size=64, epochs=20, callbacks=[result.one_cycle()])
        ```

        Args:
            method: As for `suggest`.
            **kwargs: Arguments of `OneCycleLR`. With `max_lr`, nothing is read off the test.

        Raises:
            TypeError: As `OneCycleLR` raises it.
            ValueError: As `suggest` and `OneCycleLR` raise it.

        Warns:
            UserWarning: As `suggest` warns.
        """
        if "max_lr" not in kwargs:
            kwargs["max_lr"] = self._suggest(method, stacklevel=3).max_lr
        return OneCycleLR(**kwargs)

    def cyclic_lr(self, cycles: int = 2, *, method: str | None = None, **kwargs: Any) -> CyclicLR:
        """Returns a `CyclicLR` with the suggested bounds. Its cycles span the `fit` it is in.

        ```python
        model.fit(x, y, batch_size=64, epochs=20, callbacks=[result.cyclic_lr(cycles=4)])
        ```

        Args:
            cycles: The number of cycles. Not used if you pass `step_size`. Defaults to `2`.
            method: As for `suggest`.
            **kwargs: Arguments of `CyclicLR`. With `base_lr` and `max_lr`, the curve is not read.

        Raises:
            TypeError: As `CyclicLR` raises it.
            ValueError: As `suggest` and `CyclicLR` raise it.

        Warns:
            UserWarning: As `suggest` warns.
        """
        if not {"base_lr", "max_lr"} <= kwargs.keys():
            base_lr, max_lr = self._suggest(method, stacklevel=3)
            kwargs = {"base_lr": base_lr, "max_lr": max_lr, **kwargs}
        if kwargs.get("step_size") is None:
            kwargs["cycles"] = cycles
        return CyclicLR(**kwargs)

    def suggestions(self) -> dict[str, Suggestion]:
        """Returns what each reading of the loss suggests, by method: the dots that `plot` draws.

        A method that finds no answer in the curve is left out. Nothing is warned of.
        """
        found = {}
        for method, reading in READINGS.items():
            if reading.of != "accuracy":
                with suppress(ValueError):
                    found[method] = self._read(method)
        return found

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws loss over rate and marks the suggestions, as `clr.plots.range_test` says.

        Args:
            ax: Axes to draw into. Defaults to new ones.
        """
        return plots.range_test(self, ax)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the result to a JSON file, whole or not at all."""
        self.to_json(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "RangeTest":
        """Returns the result that `save` wrote.

        Raises:
            FileNotFoundError: No such file.
            ValueError: The file is damaged, or is not a range test's.
        """
        return cls.from_json(path)

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Returns the result as JSON, and writes it to a file if one is named, as `save` does.

        Args:
            path: File to write. Defaults to none.
        """
        text = json_text(self.FORMAT, self._values())
        if path is not None:
            write_atomically(Path(path), text.encode())
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "RangeTest":
        """Returns the result that `to_json` or `save` wrote.

        Raises:
            FileNotFoundError: No such file.
            ValueError: The file is damaged, or is not a range test's.
        """
        with read_json(path, cls.FORMAT, "a range test that RangeTest.to_json wrote") as values:
            result = cls._of(values)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Returns what `to_json` writes, as plain values, to put into a record of your own."""
        return {"format": self.FORMAT, **self._values()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RangeTest":
        """Returns the result that `to_dict` described.

        Raises:
            ValueError: The values are damaged, or are not a range test's.
        """
        try:
            if values["format"] != cls.FORMAT:
                raise ValueError(f'"format" is not "{cls.FORMAT}"')
            return cls._of({name: value for name, value in values.items() if name != "format"})
        except Exception as error:  # Damage shows as errors of many kinds.
            raise ValueError(
                f"The values are not a range test's: {type(error).__name__}: {error}"
            ) from error

    def _values(self) -> dict[str, Any]:
        values = asdict(self)
        if self.trials is None:
            del values["trials"]  # As files without them were written before there were any.
        return values

    @classmethod
    def _of(cls, values: dict[str, Any]) -> "RangeTest":
        """Returns the result with these values. Raises errors of many kinds if they are damaged."""
        result = cls(**values)
        if result.trials is not None:
            result.trials = [(lr, loss) for lr, loss in result.trials]  # JSON knows only lists.
        curves = [c for c in (result.lrs, result.losses, result.accuracies) if c is not None]
        if len({len(curve) for curve in curves}) != 1:
            raise ValueError("the curves differ in length")
        if not all(isinstance(value, float) for curve in curves for value in curve):
            raise ValueError("a curve holds something other than numbers")
        result._touch_all()
        return result

    def _suggest(self, method: str | None, stacklevel: int) -> Suggestion:
        """Returns what `suggest` does, and warns as it does."""
        suggestion = self._read_default() if method is None else self._read(method)
        if suggestion.warning is not None:
            warnings.warn(suggestion.warning, stacklevel=stacklevel)
        return suggestion

    def _read_default(self) -> Suggestion:
        """Returns what the trials say, or else the curve, and then why not the trials."""
        try:
            return self._read("trials")
        except ValueError as error:
            found = self._read(DEFAULT)
            if self.trials is None:
                return found
            return replace(found, warning=" ".join(filter(None, [str(error), found.warning])))

    def _read(self, method: str) -> Suggestion:
        """Returns what `suggest` does, without a warning."""
        checks.choice("method", method, tuple(READINGS))
        reading = READINGS[method]
        if reading.of == "accuracy" and self.accuracies is None:
            raise ValueError(
                f"`method={method!r}` needs a curve of accuracies, and there is none. Compile "
                "the model with metrics=['accuracy'], or name another: "
                "lr_range_test(metric=...)."
            )
        bounds = Bounds(*reading.bounds(self._curve(reading.of)))
        return Suggestion(
            float(bounds.base_lr),
            float(bounds.max_lr),
            method,
            reading.source,
            bounds.warning,
            {name: float(lr) for name, lr in bounds.marks.items()},
        )

    def _curve(self, of: str) -> Curve:
        """Returns the losses or the accuracies, ready to be read."""
        values = self.accuracies if of == "accuracy" else self.losses
        return Curve(
            self.lrs,
            [] if values is None else values,
            of=of,
            beta=self.config["beta"],
            every=self.config["validation_every"] or 1,
            stopped=self.stopped,
            default_lr=self.config.get("default_lr"),
            trials=[(lr, math.inf if loss is None else loss) for lr, loss in self.trials or []],
        )

    def _touch_all(self) -> None:
        """Uses all that must be there; what is not raises an error of some kind."""
        repr(self), self.smoothed, self.window

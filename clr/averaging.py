"""`AveragedWeights`: one network from the mean of a training run's weights."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from clr import checks, optimizers
from clr.batch_statistics import update_batch_normalization
from clr.cycle_ends import AtCycleEnds, Cycle
from clr.files import write_arrays

START = 0.75  # The share of the training run that the paper lets pass first.
FILES_KEPT = 3  # One more than checkpoints: a kill may come between a file and its checkpoint.


class AveragedWeights(AtCycleEnds):
    """Averages the network's weights at the ends of cycles, or of the last epochs.

    Stochastic weight averaging: networks at the ends of cycles lie around a region of low loss, and
    their mean lies nearer to its middle. An ensemble (`Snapshots`) predicts with each of them;
    this is one network, as large and as fast as the last.

    ```python
    cycle = CyclicLR(1e-4, 1e-1, step_size=4 * steps)
    average = AveragedWeights(cycle)
    model.fit(x, y, epochs=24, callbacks=[cycle, average])
    model.evaluate(x_test, y_test)  # The last network: `fit` leaves the model as it is.
    average.apply(x)                # The average, with batch normalisation's statistics from `x`.
    model.evaluate(x_test, y_test)
    model.save("averaged.keras")
    average.restore()               # The last network again.
    ```

    Without a cycle, as with one-cycle, cosine or a constant rate, the weights at the ends of the
    last quarter of the epochs are averaged: `AveragedWeights()`.

    Averaged are the weights that train. All others, such as those of frozen layers, are the last
    network's. The average is a running one, in float32 at least, and takes the memory of one
    network. An end of a cycle is what `Snapshots` says, and the average belongs to one training
    run, as `Snapshots` does: a second `fit` that goes on with the same model adds to it, another
    model or optimizer begins anew. Without a cycle a `fit` that goes on is one with
    `initial_epoch`. If cycles or epochs count anew, the average begins anew too.

    A folder holds the average after each of the last ends. A training run that is resumed goes on
    from the one that it has behind it. A run that has just begun refuses a folder with an average
    in it, and so does one whose weights have other shapes.

    Args:
        cycle: What sets the rate, if its cycles' ends are to be averaged: a `CyclicLR`, which
            stands before this one in the list, or the optimizer's `CyclicalLearningRate`. Defaults
            to `None`: the ends of epochs.
        start: Share of the epochs of `fit` after which averaging begins, in [0, 1). Defaults to 0
            with a cycle, and to 0.75 without.
        folder: Where to keep the average, so that a training run that is resumed has it. Made if it
            is not there. Defaults to memory alone.

    Attributes:
        weights: The average, as `model.get_weights()` orders them. `None` before the first end.
        numbers: The numbers of the cycles or epochs in it, from 1.
        last: The model's weights before the first `apply`, for `restore`. `None` before that.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument, or a folder that can't be written to; at the start of `fit`, an
            optimizer with `use_ema=True`, or a model that holds the average; at its first epoch,
            a folder of another training run, or a `cycle` that does not set the rate there.

    Warns:
        UserWarning: At the end of `fit`, fewer than two sets of weights are averaged; a file is
            damaged, or later than the training run that goes on; a resumed run finds no average.

    Sources: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization"
    (arXiv:1803.05407); `torch.optim.swa_utils`, whose average this is.
    """

    _file = "average"
    _needs_cycle = False

    def __init__(
        self,
        cycle: Cycle | None = None,
        start: float | None = None,
        folder: str | Path | None = None,
    ):
        super().__init__(cycle, folder)
        default = START if cycle is None else 0.0
        self.start = checks.share("start", default if start is None else start)
        self.weights: list[np.ndarray] | None = None
        self.numbers: list[int] = []
        self.last: list[np.ndarray] | None = None
        self._applied_after: int | None = None  # Updates, while the average is in the model.

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle holds: all but the model."""
        return {**super().__getstate__(), "_applied_after": None}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets the average of another model's training run.

        Raises:
            ValueError: The model holds the average, or its optimizer has `use_ema=True`.
        """
        super().on_train_begin(logs)
        _refuse_ema(self.model.optimizer)
        if self._applied_after is not None:
            raise ValueError(
                "`AveragedWeights` averages a training run that goes on from its last weights, and "
                "the model holds their average. Call restore() first, or train on from the average "
                "with a new AveragedWeights. Received: a model after apply()"
            )

    def apply(self, x: Any = None, batch_size: int = 32, steps: int | None = None) -> None:
        """Puts the average into the model, and estimates batch normalisation's statistics for it.

        The optimizer stays as it is. `restore` puts the last weights back.

        Args:
            x: Training data, as `clr.batch_statistics.update_batch_normalization` takes them.
                Needed only if the model has batch normalisation that trains.
            batch_size: Examples in a batch of arrays. Defaults to 32.
            steps: How many batches to use. Defaults to all.

        Raises:
            ValueError: There is no model, nothing was averaged, or the data are not right. The
                model is as it was.
        """
        model = self.model
        if model is None:
            raise ValueError(
                "`AveragedWeights` has no model to put the average into. Train with it first, or "
                "give a copy of it a model by set_model(model). Received: model=None"
            )
        if self.weights is None:
            raise ValueError(
                "`apply` needs an average, and no end of a cycle or of an epoch after `start` has "
                f"come yet. Train for longer. Received: numbers={self.numbers}, start={self.start}"
            )
        before = model.get_weights()
        try:
            model.set_weights(self.weights)
            update_batch_normalization(model, x, batch_size, steps)
        except BaseException:
            model.set_weights(before)
            raise
        if self._applied_after is None:
            self.last = before
        self._applied_after = _updates(model)

    def restore(self) -> None:
        """Puts the weights back that the model had before `apply`.

        Raises:
            ValueError: The average is not in the model, or the model was trained since then.
        """
        if self._applied_after is None or self.last is None:
            raise ValueError("`restore` needs a model that holds the average: call apply() before")
        now = _updates(self.model)
        if now != self._applied_after:
            raise ValueError(
                "`restore` would undo the training since apply(). To have the last weights all the "
                f"same: model.set_weights(average.last). Received: {now} updates of the optimizer, "
                f"and {self._applied_after} at apply()"
            )
        self.model.set_weights(self.last)
        self._applied_after = None

    def _at_end(self, done: int, before: int, epoch: int) -> None:
        if epoch < self._first_epoch():
            return
        trained = {id(variable) for variable in self.model.trainable_weights}
        now = [_exact(array) for array in self.model.get_weights()]
        if self.weights is not None:
            now = [
                running_mean(mean, array, len(self.numbers)) if id(variable) in trained else array
                for variable, mean, array in zip(self.model.weights, self.weights, now, strict=True)
            ]
        self.weights, self.numbers = now, [*self.numbers, done]
        if self.folder is not None:
            write_arrays(self._path(done), now, numbers=np.array(self.numbers))
            behind = [path for number, path in self._paths().items() if number <= done]
            for old in behind[:-FILES_KEPT]:
                old.unlink()

    def _first_epoch(self) -> int:
        """Returns the first epoch whose end may be averaged, from 0."""
        if not self.start:
            return 0
        epochs = (self.params or {}).get("epochs")
        if epochs is None:
            raise ValueError(
                "`start` is a share of the epochs, and their number is not known. In a loop of "
                "your own call set_params({'epochs': epochs}), or pass start=0. "
                f"Received: start={self.start}, epochs=None"
            )
        return first_epoch(self.start, epochs)

    def _forget(self) -> None:
        self.weights, self.numbers, self.last, self._applied_after = None, [], None, None

    def _leave_out(self, done: int, shapes: list[tuple[int, ...]]) -> None:
        shaped = self.weights is None or [np.shape(array) for array in self.weights] == shapes
        if not shaped or max(self.numbers, default=0) > done:
            self.weights, self.numbers = None, []

    def _read(self, paths: dict[int, Path], shapes: list[tuple[int, ...]]) -> None:
        if self.numbers:  # From a former `fit`.
            return
        for path in reversed(paths.values()):
            if found := self._arrays(path, shapes):
                self.weights, self.numbers = found[0], found[1]["numbers"].tolist()
                return

    def _begin(self, epoch: int) -> None:
        super()._begin(epoch)
        if not self.numbers and epoch > self._first_epoch() and self._done:
            warnings.warn(
                f"This training run goes on after epoch {epoch}, and there is no average from "
                "before: it begins now. To keep it, name a `folder`. "
                f"Received: folder={self.folder and str(self.folder)!r}",
                stacklevel=4,
            )

    def _is_replaceable(self, later: Path) -> bool:
        """An average of one is what a run leaves that was killed before its first checkpoint."""
        found = self._arrays(later, [np.shape(array) for array in self.model.get_weights()])
        return found is None or len(found[1]["numbers"]) == 1

    def _complaint(self) -> str | None:
        if len(self.numbers) > 1:
            return None
        end = "epoch" if self.cycle is None else "cycle"
        after = f" after the share start={self.start:g} of the epochs" if self.start else ""
        said = "is the weights of one alone" if self.numbers else "is empty"
        return (
            f"Fewer than two {end}s ended{after}, so that the average {said}. Train for more "
            f"epochs{', or make the cycles shorter' if self.cycle else ''}"
            f"{', or begin earlier' if self.start else ''}."
        )


def running_mean(mean: np.ndarray, value: np.ndarray, count: int) -> np.ndarray:
    """Returns the mean of `count` values and of one more."""
    return mean + (value - mean) / mean.dtype.type(count + 1)


def first_epoch(start: float, epochs: int) -> int:
    """Returns the first epoch, from 0, of those after a share of all."""
    return math.floor(round(start * epochs, 6))


def _updates(model: Any) -> int:
    """Returns how many updates a model's optimizer has made, 0 without one."""
    return 0 if model.optimizer is None else optimizers.updates(model.optimizer)


def _exact(array: np.ndarray) -> np.ndarray:
    """Returns a copy, in float32 if it is of half precision."""
    half = array.dtype.itemsize < 4 and "float" in array.dtype.name
    return array.astype("float32") if half else np.array(array)


def _refuse_ema(optimizer: Any) -> None:
    """Raises an error if the optimizer keeps an average of its own, as SwapEMAWeights needs."""
    each = optimizers.inner(optimizer)
    for one in getattr(each, "optimizers", [each]):
        if getattr(one, "use_ema", False):
            raise ValueError(
                "`AveragedWeights` averages the weights that `fit` trains, and an optimizer with "
                "use_ema=True (for SwapEMAWeights) replaces them by an average of its own. Leave "
                f"one or the other out. Received: optimizer={one.name}, use_ema=True"
            )

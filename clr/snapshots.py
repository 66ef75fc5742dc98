"""`Snapshots`: an ensemble of the networks at the ends of the cycles, from one training run."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from clr import checks, optimizers
from clr.callback import CyclicLR
from clr.files import check_writable, read_arrays, write_arrays
from clr.schedule import CyclicalLearningRate


class Snapshots(keras.callbacks.Callback):
    """Keeps the network's weights at the end of each cycle, to predict with all of them.

    At the end of a cycle the rate is low and the network has settled; the next cycle takes it
    elsewhere. The mean of several such networks' predictions is often better than the last one's,
    and costs no further training.

    ```python
    cycle = CyclicLR(1e-4, 1e-1, step_size=4 * steps)
    snapshots = Snapshots(cycle)
    model.fit(x, y, epochs=24, callbacks=[cycle, snapshots])
    probabilities = snapshots.predict(x_test)
    ```

    Weights are kept at the first epoch's end after a cycle's, which is the same moment if
    `step_size` is a whole number of epochs. The last of a `CyclicLR(cycles=n)` ends with training.

    The weights are always those of one training run. A second `fit` that goes on with it keeps them
    and adds to them. What does not belong to it is forgotten as `fit` begins: everything, if the
    model or its optimizer is another than before, and the cycles that count anew after a `reset` or
    with `cycles=n`. A copy or a pickle holds the weights and not the model.

    A folder belongs to one training run, too. One that is resumed reads the cycles that it has
    behind it and replaces later ones, with a warning, as they end again. A run that has just begun
    refuses a folder with snapshots in it, and so does one whose weights have other shapes.

    Args:
        cycle: What sets the rate: a `CyclicLR`, which stands before this one in the list, or the
            optimizer's `CyclicalLearningRate`.
        folder: Where to keep the weights, so that a training run that is resumed has them all. Made
            if it is not there. Defaults to memory alone.

    Attributes:
        weights: By the cycle's number, from 1: what `model.get_weights()` returned at its end.

    Raises:
        TypeError: `cycle` is neither of these.
        ValueError: The folder can't be written to; at the first epoch of `fit`, it holds snapshots
            of another training run, or `cycle` does not set the rate there.

    Warns:
        UserWarning: No cycle ended in a `fit`; a snapshot in the folder is damaged, or later than
            the training run that goes on.

    Source: Huang et al., "Snapshot Ensembles: Train 1, Get M for Free" (arXiv:1704.00109).
    """

    def __init__(self, cycle: CyclicLR | CyclicalLearningRate, folder: str | Path | None = None):
        super().__init__()
        if not isinstance(cycle, CyclicLR | CyclicalLearningRate):
            raise TypeError(
                f"`cycle` must be a CyclicLR or a CyclicalLearningRate. Received: cycle={cycle!r}"
            )
        self.cycle = cycle
        self.folder = None if folder is None else Path(folder)
        self.weights: dict[int, list[np.ndarray]] = {}
        self._trained: tuple[Any, Any] | None = None  # The model of these weights, its optimizer.
        self._follows_cycle: bool | None = None
        self._done: int | None = None
        self._has_ended = self._has_warned = False
        if self.folder is not None:
            check_writable(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle holds: all but the model."""
        without = {"_model": None, "params": None, "_trained": None, "_done": None}
        return {**self.__dict__, **without}

    def set_params(self, params: dict) -> None:
        """Notes whether `cycle` stands before this callback; Keras calls one after the other."""
        super().set_params(params)
        self._follows_cycle = getattr(self.cycle, "params", None) is params

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets the weights of another model's training run."""
        now = self.model, self.model.optimizer
        if self._trained is not None and any(
            one is not other for one, other in zip(now, self._trained, strict=True)
        ):
            self.weights, self._trained, self._has_warned = {}, None, False
        self._done, self._has_ended = None, False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Finds the snapshots of the cycles that the training run has behind it, before its first.

        Raises:
            ValueError: `cycle` does not set the rate of this `fit`, or the folder holds snapshots
                of another training run.
        """
        if self._done is None:
            self._require_cycle()
            self._begin(epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps the weights, if a cycle has ended with this epoch or within it."""
        if self._done is None:
            raise RuntimeError(
                "`Snapshots` counts from the first epoch's start. In a loop of your own call "
                "on_epoch_begin(epoch) before on_epoch_end(epoch)"
            )
        before, done = self._done, self._cycles_done()
        self._done = done
        if done < before:  # The count began anew.
            self.weights = {number: w for number, w in self.weights.items() if number <= done}
        if done <= before:
            return
        self._has_ended = True
        self.weights[done] = self.model.get_weights()
        if self.folder is not None:
            for passed in range(before + 1, done):  # They ended in this same epoch.
                self._path(passed).unlink(missing_ok=True)
            write_arrays(self._path(done), self.weights[done])

    def on_train_end(self, logs: dict | None = None) -> None:
        """Draws a warning if no cycle has ended, once for a training run."""
        if self._done is None:  # No epoch was left to train.
            if getattr(self.cycle, "policy", None) is not None:
                self._begin(epoch=1)
        elif not self._has_ended and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "No cycle ended in this `fit`, so that Snapshots kept no weights in it. Train for "
                "more epochs, or make the cycles shorter.",
                stacklevel=2,
            )

    def predict(self, x: Any, last: int | None = None, **options: Any) -> Any:
        """Returns the mean of the snapshots' predictions. The model is left as it was.

        Args:
            x: What `model.predict` takes, except an iterator, which can be read only once. Data
                that are shuffled must come in the same order each time.
            last: How many snapshots to use, the latest ones. Defaults to all.
            **options: Passed to `model.predict`, such as `batch_size`.

        Returns:
            An array, or arrays in the structure that `model.predict` returns.

        Raises:
            ValueError: There is no model, no cycle has ended yet, or fewer than `last`.
        """
        model = self.model
        if model is None:
            raise ValueError(
                "`Snapshots` has no model to predict with. Train with it first, or give a copy of "
                "it a model by set_model(model). Received: model=None"
            )
        if last is not None:
            checks.count("last", last, minimum=0)
        if not self.weights or not 1 <= (1 if last is None else last) <= len(self.weights):
            raise ValueError(
                f"`last` must be from 1 to the number of cycles that have ended, "
                f"{len(self.weights)}. Received: last={last!r}"
            )
        if isinstance(x, Iterator):
            raise ValueError(
                "`x` must be data that each snapshot can read: an array or a data set, and no "
                f"iterator. Received: x={x!r}"
            )
        chosen = [self.weights[number] for number in sorted(self.weights)][-int(last or 0) :]
        before, total = model.get_weights(), None
        try:
            for weights in chosen:
                model.set_weights(weights)
                found = model.predict(x, **{"verbose": 0, **options})
                total = found if total is None else tree.map_structure(np.add, total, found)
        finally:
            model.set_weights(before)
        return tree.map_structure(lambda each: each / len(chosen), total)

    def _begin(self, epoch: int) -> None:
        """Keeps what belongs to this training run, from memory and from the folder."""
        self._done = done = self._cycles_done()
        shapes = _shapes(self.model.get_weights())
        self.weights = {
            number: weights
            for number, weights in self.weights.items()
            if number <= done and _shapes(weights) == shapes
        }
        if self.folder is not None:
            has_begun = bool(done or epoch)
            if isinstance(self.cycle, CyclicalLearningRate):  # It goes by the optimizer's count.
                has_begun = optimizers.batches(self.model.optimizer) > 0
            self._read(self.folder, shapes, has_begun)
        self._trained = self.model, self.model.optimizer

    def _read(self, folder: Path, shapes: list[tuple[int, ...]], has_begun: bool) -> None:
        done = self._done or 0
        paths = {
            int(re.findall(r"\d+", path.stem)[-1]): path
            for path in sorted(folder.glob("snapshot-*.npz"))
        }
        for number, path in paths.items():
            if number > done or number in self.weights:
                continue
            try:
                weights, _ = read_arrays(path)
            except Exception as error:  # Damage shows as errors of zipfile, zlib, NumPy, ...
                warnings.warn(
                    f"{path} is damaged and passed over: {type(error).__name__}: {error}",
                    stacklevel=4,
                )
                continue
            if _shapes(weights) != shapes:
                raise self._of_another_run(path, "whose weights have other shapes")
            self.weights[number] = weights
        later = [path for number, path in paths.items() if number > done]
        if not later or self._trained is not None:  # Its own, of a former `fit`.
            return
        if not has_begun:
            raise self._of_another_run(later[0], "and this one has just begun")
        warnings.warn(
            f"{later[0]} is of a later cycle than this training run has ended, {done}. It is not "
            "used, and replaced as soon as that cycle ends.",
            stacklevel=4,
        )

    def _of_another_run(self, path: Path, because: str) -> ValueError:
        return ValueError(
            "`folder` must be a new one, or the one of the training run that goes on: name "
            f"another, or move its snapshots away. Received: folder={str(self.folder)!r}, which "
            f"holds {path.name} of another training run, {because}"
        )

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"snapshot-{number:03}.npz"

    def _cycles_done(self) -> int:
        if isinstance(self.cycle, CyclicLR):
            return self.cycle.cycles_done()
        return self.cycle.policy.cycles_before(optimizers.batches(self.model.optimizer))

    def _require_cycle(self) -> None:
        """Raises an error if the rate comes from elsewhere: there would be no cycles to end."""
        if isinstance(self.cycle, CyclicalLearningRate):
            used = optimizers.schedule(self.model.optimizer)
            if used is not self.cycle:
                raise ValueError(
                    "`cycle` must be the schedule that the model's optimizer has. "
                    f"Received: cycle={self.cycle!r}, where the optimizer has {used!r}"
                )
        elif (
            self._follows_cycle is False
            or self.cycle.model is not self.model
            or self.cycle.policy is None
        ):
            raise ValueError(
                "`cycle` must stand before Snapshots in the list of callbacks of the same fit, "
                "because Snapshots counts its cycles. "
                f"Received: callbacks of which cycle={self.cycle!r} is not an earlier one"
            )


def _shapes(weights: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in weights]

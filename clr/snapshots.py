"""`Snapshots`: an ensemble of the networks at the ends of the cycles, from one training run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from clr import checks
from clr.cycle_ends import AtCycleEnds, Cycle
from clr.files import write_arrays


class Snapshots(AtCycleEnds):
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
        UserWarning: No cycle ended in a `fit`, nor before it; a snapshot in the folder is damaged,
            or later than the training run that goes on.

    Source: Huang et al., "Snapshot Ensembles: Train 1, Get M for Free" (arXiv:1704.00109).
    """

    _file = "snapshot"

    def __init__(self, cycle: Cycle, folder: str | Path | None = None):
        super().__init__(cycle, folder)
        self.weights: dict[int, list[np.ndarray]] = {}

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

    def _at_end(self, done: int, before: int, epoch: int) -> None:
        self.weights[done] = self.model.get_weights()
        if self.folder is not None:
            for passed in range(before + 1, done):  # They ended in this same epoch.
                self._path(passed).unlink(missing_ok=True)
            write_arrays(self._path(done), self.weights[done])

    def _forget(self) -> None:
        self.weights = {}

    def _leave_out(self, done: int, shapes: list[tuple[int, ...]]) -> None:
        self.weights = {
            number: weights
            for number, weights in self.weights.items()
            if number <= done and [np.shape(array) for array in weights] == shapes
        }

    def _read(self, paths: dict[int, Path], shapes: list[tuple[int, ...]]) -> None:
        for number, path in paths.items():
            if number not in self.weights and (found := self._arrays(path, shapes)):
                self.weights[number] = found[0]

    def _complaint(self) -> str | None:
        if self._has_ended or self.weights:  # From before, of a training run that goes on.
            return None
        return (
            "No cycle ended in this `fit`, so that Snapshots kept no weights in it. Train for more "
            "epochs, or make the cycles shorter."
        )

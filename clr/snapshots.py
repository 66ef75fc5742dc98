"""`Snapshots`: an ensemble of the networks at the ends of the cycles, from one training."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clr import optimizers
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
    In a new `fit` of such a callback, a cycle's weights replace those of the same number.

    Args:
        cycle: What sets the rate: a `CyclicLR`, which stands before this one in the list, or the
            optimizer's `CyclicalLearningRate`.
        folder: Where to keep the weights, so that a training that is resumed has them all. Made if
            it is not there. Defaults to memory alone.

    Attributes:
        weights: By the cycle's number, from 1: what `model.get_weights()` returned at its end.

    Raises:
        TypeError: `cycle` is neither of these.
        ValueError: The folder can't be written to.

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
        self._done: int | None = None
        if self.folder is not None:
            check_writable(self.folder)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets how many cycles a former training run had."""
        self._done = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Reads the snapshots of the cycles that a resumed run has behind it, before its first."""
        if self._done is not None:
            return
        if isinstance(self.cycle, CyclicalLearningRate):
            self._require_schedule(self.cycle)
        elif self.cycle.policy is None:
            raise ValueError(
                "`cycle` must stand before Snapshots in the list of callbacks, because it finds "
                "the length of its cycles there. "
                f"Received: callbacks of which cycle={self.cycle!r} is not an earlier one"
            )
        self._done = self._cycles_done()
        for path in sorted(self.folder.glob("snapshot-*.npz")) if self.folder else ():
            number = int(re.findall(r"\d+", path.stem)[-1])
            if number <= self._done and number not in self.weights:
                self.weights[number], _ = read_arrays(path)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps the weights, if a cycle has ended with this epoch or within it."""
        done = self._cycles_done()
        if done == self._done:
            return
        self._done = done
        self.weights[done] = self.model.get_weights()
        if self.folder is not None:
            write_arrays(self.folder / f"snapshot-{done:03}.npz", self.weights[done])

    def _cycles_done(self) -> int:
        if isinstance(self.cycle, CyclicLR):
            return self.cycle.cycles_done()
        return self.cycle.policy.cycles_before(optimizers.batches(self.model.optimizer))

    def _require_schedule(self, schedule: CyclicalLearningRate) -> None:
        """Raises an error if the rate comes from elsewhere: there would be no cycles to end."""
        used = optimizers.schedule(self.model.optimizer)
        if used is not schedule:
            raise ValueError(
                "`cycle` must be the schedule that the model's optimizer has. "
                f"Received: cycle={schedule!r}, where the optimizer has {used!r}"
            )

    def predict(self, x: Any, last: int | None = None, **options: Any) -> np.ndarray:
        """Returns the mean of the snapshots' predictions. The model is left as it was.

        Args:
            x: What `model.predict` takes.
            last: How many snapshots to use, the latest ones. Defaults to all.
            **options: Passed to `model.predict`, such as `batch_size`.

        Raises:
            ValueError: No cycle has ended yet, or fewer than `last`.
        """
        if not self.weights or (last or 1) > len(self.weights) or (last or 1) < 1:
            raise ValueError(
                f"`last` must be from 1 to the number of cycles that have ended, "
                f"{len(self.weights)}. Received: last={last!r}"
            )
        chosen = [self.weights[number] for number in sorted(self.weights)][-(last or 0) :]
        before = self.model.get_weights()
        try:
            total: Any = 0
            for weights in chosen:
                self.model.set_weights(weights)
                total = total + self.model.predict(x, verbose=0, **options)
        finally:
            self.model.set_weights(before)
        return total / len(chosen)

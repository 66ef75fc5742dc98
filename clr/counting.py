"""`Counter`: how many updates a model's optimizer has made, batch by batch."""

import math
from typing import Any

import keras

from clr import optimizers


class Counter:
    """Counts the updates that an optimizer has made, or tried to make: a cycle moves on by these.

    In `fit`, with Keras's own training step and optimizers, each batch is one update, or a share
    of one under gradient accumulation. The counter then reads the optimizer once an epoch. In a
    `train_step` or a loop of your own, or with an optimizer of your own, a batch may bring any
    number of updates. There the counter reads the optimizer before each batch.

    An update that loss scaling skips counts as tried: no rate is used twice.

    Attributes:
        each_batch: Whether the optimizer has to be read before each batch.
        batches_an_update: Over how many batches the optimizer accumulates gradients.
        batches: The batches that the optimizer had seen when it was read last.
        skipped: The updates that were tried and not made.
    """

    def __init__(self) -> None:
        self.each_batch = True
        self.batches_an_update = 1
        self.batches = 0
        self._updates = 0
        self._batch = 0  # Of the epoch, when the optimizer was read last.
        self._skipped = 0  # Batches.
        self._scale: float | None = None

    def begin(self, model: keras.Model, in_fit: bool, each_batch: bool) -> None:
        """Finds out how to count in a training run.

        Args:
            model: A compiled model.
            in_fit: Whether `fit` makes the batches.
            each_batch: Whether to read the optimizer before each batch in any case.
        """
        kinds = [type(part) for part in optimizers.parts(model.optimizer)]
        known = all(map(optimizers.is_keras, kinds)) and not optimizers.has_own_step(model)
        self.each_batch = each_batch or not (in_fit and known)
        self.batches_an_update = optimizers.batches_an_update(model.optimizer)
        self._scale = None

    @property
    def skipped(self) -> int:
        """The updates that were tried and not made."""
        return self._skipped // self.batches_an_update

    def now(self, optimizer: Any) -> int:
        """Returns the updates until now, of which those tried are known from former readings."""
        return optimizers.updates(optimizer) + self.skipped

    def read(self, optimizer: Any, batch: int) -> None:
        """Reads the optimizer before a batch of the epoch."""
        scale = optimizers.loss_scale(optimizer) if self.each_batch else None
        if scale and self._scale and scale < self._scale:  # Halved with each update skipped.
            self._skipped += round(math.log2(self._scale / scale))
        self._scale, self._batch = scale, batch
        self.batches = optimizers.batches(optimizer) + self._skipped
        self._updates = self.now(optimizer)

    def updates_before(self, batch: Any) -> Any:
        """Returns the updates before a batch of the epoch, or before each of an array of them."""
        if self.each_batch:
            return self._updates + 0 * batch
        return (self.batches + batch - self._batch) // self.batches_an_update

    def end_epoch(self, optimizer: Any, trained: int, found_no_data: bool) -> None:
        """Notes the updates that were skipped, and takes one back that was not made.

        Where Keras on TensorFlow finds that data of unknown length have ended, its graph may have
        added to the optimizer's count before it misses the batch.

        Args:
            optimizer: The optimizer.
            trained: The batches of this epoch that were trained.
            found_no_data: Whether Keras began one batch more than there were.
        """
        made = optimizers.batches(optimizer) + self._skipped - self.batches
        expected = 0 if self.each_batch else trained
        if found_no_data and made > expected and (self.each_batch or made == expected + 1):
            optimizers.set_batches(optimizer, self.batches + expected - self._skipped)
        elif self.each_batch:
            self.read(optimizer, trained)
        elif optimizers.loss_scale(optimizer) and 0 <= made < expected:
            self._skipped += expected - made

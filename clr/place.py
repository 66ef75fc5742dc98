"""`Place`: where in its cycle a callback stands."""

from typing import Any

from clr import optimizers
from clr.counting import Counter


class Place:
    """Where a callback's cycle began, and its iteration, by the optimizer's count of updates.

    A new callback begins a new cycle, however long the model was trained before. The same one goes
    on where it stopped. A `fit` whose first epoch is not 0 is a resumed training run: there a new
    callback goes on, too.

    Attributes:
        counter: What counts the updates.
        optimizer: The optimizer that they are counted of. `None` before the first `fit`.
        origin: The count at which the policy's iteration 0 lies.
        origin_is_known: Whether it is, or has to be found when the first epoch's number is known.
        was_used: Whether the callback, or the one that it is a copy of, was in a `fit` before.
        batches: The batches that the optimizer had seen at the epoch's beginning.
        updates: The updates that it had made then.
    """

    def __init__(self) -> None:
        self.counter = Counter()
        self.optimizer: Any = None
        self.origin = 0
        self.origin_is_known = self.was_used = False
        self.batches = self.updates = 0
        self._met_at = 0  # The count of updates at the beginning of this `fit`,
        self._left_at: int | None = 0  # and at the end of the last one, if that came to its end.

    def __getstate__(self) -> dict[str, Any]:
        """Returns a place without an optimizer, from which a copy goes on."""
        place = Place()
        place.origin, place.was_used = -self.iterations(self.optimizer), self.was_used
        return place.__dict__

    def meet(self, optimizer: Any, spans_fit: bool) -> None:
        """Takes the optimizer of a `fit` that is about to begin.

        Args:
            optimizer: The model's optimizer.
            spans_fit: Whether the cycles span each `fit`: then it never goes on from the last.
        """
        goes_on = optimizer is self.optimizer or (self.optimizer is None and self.was_used)
        if not goes_on:
            self.counter = Counter()
        count = self.counter.now(optimizer)
        self.origin_is_known = goes_on and not spans_fit
        if not self.origin_is_known:
            self.origin = count
        elif self._left_at is not None:  # While others trained the model, the cycle stood still.
            self.origin += max(0, count - self._left_at)
        self.optimizer, self._met_at, self._left_at = optimizer, count, None

    def leave(self, optimizer: Any) -> None:
        """Notes the count at the training's end."""
        self._left_at = self.counter.now(optimizer)

    def begin_epoch(self, optimizer: Any) -> None:
        """Reads the optimizer before an epoch."""
        self.counter.read(optimizer, 0)
        self.batches, self.updates = self.counter.batches, self.counter.updates_before(0)

    def find_origin(self, epoch: int, steps: int | None, spans_fit: bool) -> bool:
        """Finds where the cycle began, at the beginning of the first epoch.

        Args:
            epoch: The epoch's number. Above 0, training was resumed.
            steps: Batches in an epoch, if that is known.
            spans_fit: As for `meet`.

        Returns:
            Whether a resumed run is counted by its epochs, because its optimizer is a new one.
        """
        passed, each = epoch * (steps or 0), self.counter.batches_an_update
        by_epochs = epoch > 0 and self.updates == 0 and not self.was_used
        if by_epochs:
            self.origin = -(passed // each)
        elif spans_fit or (epoch > 0 and self.updates <= self._met_at):
            began = self.batches - passed if steps else 0
            # Where loss scaling has skipped updates, the optimizer has counted too few.
            scaled = optimizers.scales_loss(self.optimizer)
            self.origin = (began if scaled and self.updates else max(0, began)) // each
        # Else it began where this `fit` does: BackupAndRestore may have put back a later state.
        self.origin_is_known = True
        return by_epochs

    def iteration_before(self, batch: Any) -> Any:
        """Returns the iteration of a batch of the epoch, or of each of an array of them."""
        return self.counter.updates_before(batch) - self.origin

    def iteration_after(self, batches: int) -> int:
        """Returns the iteration to which so many batches lead from the epoch's beginning."""
        return (self.batches + batches) // self.counter.batches_an_update - self.origin

    def iterations(self, optimizer: Any) -> int:
        """Returns the iteration that comes next."""
        return (0 if optimizer is None else self.counter.now(optimizer)) - self.origin

    def move_to(self, optimizer: Any, iteration: int) -> None:
        """Lets the iteration that comes next be this one."""
        self.origin += self.iterations(optimizer) - iteration
        self.origin_is_known = self.was_used = True

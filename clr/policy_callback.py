"""`PolicyCallback`: what sets the rate before each batch, and finds how long a cycle is to be."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from clr import checks, optimizers
from clr.momentum import cycle_momentum


class _RatesAhead(NamedTuple):
    """The rates of the batches to come, as numbers and as tensors."""

    batches: range = range(0)
    rates: Sequence[float] = ()
    tensors: Sequence[Any] = ()


class PolicyCallback(keras.callbacks.Callback):
    """Sets the rate that a policy says before each batch: what the callbacks here have in common.

    Args:
        policy: The policy. `None`: each `fit` gets one that spans it, from `_spanning`.
        cycle_momentum: Whether the optimizer's momentum follows the policy too.

    Attributes:
        history: `{"lr": [...], "iterations": [...]}`, the rate that each batch was trained with and
            the batch's number, from 1; with `cycle_momentum` also `"momentum"`.
        policy: The policy in force. `None` while it has no length: before the first epoch of `fit`.
    """

    def __init__(self, policy: Any, cycle_momentum: bool = False):
        super().__init__()
        self.policy = policy
        self._spans_fit = policy is None
        self.cycle_momentum = checks.flag("cycle_momentum", cycle_momentum)
        self.history: dict[str, list] = {"lr": [], "iterations": []}
        if cycle_momentum:
            self.history["momentum"] = []
        self._optimizer: Any = None
        self._updates_at_origin = 0  # Where the policy's iteration 0 lies.
        self._reset_asked = False
        self._batches_at_epoch = 0
        self._batches_an_update = 1
        self._rate_set: float | None = None
        self._ahead = _RatesAhead()
        self._is_first_epoch = True
        self._warned_of_other_steps = False
        self._release_momentum: Callable[[], None] | None = None

    def reset(self) -> None:
        """Starts a new cycle with the next epoch. A policy that spans `fit` spans what is left."""
        self._reset_asked = True

    def set_model(self, model: keras.Model) -> None:
        """Attaches the callback to a compiled model; Keras calls it at the start of `fit`."""
        super().set_model(model)
        optimizers.require_fixed_rate(
            model.optimizer,
            f"`{type(self).__name__}` needs a compiled model and an optimizer",
            "For a cyclical schedule use CyclicalLearningRate, without this callback.",
        )
        if self._spans_fit or model.optimizer is not self._optimizer:
            self._optimizer, self._updates_at_origin = model.optimizer, 0
        # Before any callback's on_train_begin: BackupAndRestore moves the count there, and what was
        # asked for before `fit` means the count of then.
        self._begin_cycle_if_asked()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets the former training run; lets the momentum cycle.

        Raises:
            ValueError: The policy is to span this `fit`, and the length of `fit` is not known.
        """
        self._is_first_epoch, self._warned_of_other_steps = True, False
        self._rate_set = None
        if self._spans_fit:
            self.policy = None  # The first epoch's number is still missing.
            self._require_steps()
        else:
            self._follow_with_momentum()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Makes the momentum constant again."""
        if self._release_momentum is not None:
            self._release_momentum()
            self._release_momentum = None
            self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Reads the optimizer's count, from which this epoch's places in the cycle follow."""
        asked, first = self._begin_cycle_if_asked(), self._is_first_epoch
        self._is_first_epoch = False
        self._batches_an_update = optimizers.batches_an_update(self.model.optimizer)
        batches = optimizers.batches(self.model.optimizer)
        if self._rate_set is None or batches <= self._batches_at_epoch:
            # Nothing was set yet, or the optimizer's state was put back, and its rate with it.
            self._rate_set = optimizers.rate(self.model.optimizer)
        if self._spans_fit and not first:
            self._warn_of_other_steps(batches - self._batches_at_epoch)
        self._batches_at_epoch = batches
        self._ahead = _RatesAhead()
        if self._spans_fit and (asked or first):
            self._span(epoch)
            self._follow_with_momentum()
        elif asked:
            self._follow_with_momentum()
        if first and not self._spans_fit:
            self._check_end(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets the rate for this batch. Only before an epoch's first is the former one read back.

        Raises:
            ValueError: The rate is another than the one that was set last.
        """
        if batch not in self._ahead.batches:
            if not self._ahead.batches:
                self._refuse_another_hand()
            self._ahead = self._look_ahead(batch)
        place = batch - self._ahead.batches.start
        self._rate_set = self._ahead.rates[place]
        optimizers.set_rate(self.model, self._ahead.tensors[place])
        self.history["lr"].append(self._rate_set)
        self.history["iterations"].append(len(self.history["iterations"]) + 1)
        if self.cycle_momentum:
            self.history["momentum"].append(float(self.policy.momentum(self._iteration(batch))))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Puts the rate of the epoch's last batch into the logs, as Keras's scheduler does."""
        if logs is not None and self.history["lr"]:
            logs["learning_rate"] = self.history["lr"][-1]

    def cycles_done(self) -> int:
        """Returns how many cycles have ended, by the optimizer's count of updates.

        Raises:
            RuntimeError: The cycle spans a `fit` whose first epoch has not begun.
        """
        if self.policy is None:
            raise RuntimeError(
                f"`cycles_done` of a {type(self).__name__} that spans `fit` needs to know how long "
                "`fit` is. Call it after this callback's first `on_epoch_begin`. "
                "Received: policy=None"
            )
        updates = optimizers.updates(self.model.optimizer)
        return self.policy.cycles_before(updates - self._updates_at_origin)

    def _iteration(self, batch: Any) -> Any:
        """Returns the policy's iteration for a batch of this epoch, or for an array of them."""
        updates = (self._batches_at_epoch + batch) // self._batches_an_update
        return updates - self._updates_at_origin

    def _refuse_another_hand(self) -> None:
        """Raises an error if the rate is another than this callback, or `fit`'s start, left."""
        rate = optimizers.rate(self.model.optimizer)
        # Rounded as a rate is on its way into the optimizer.
        dtype = self.model.optimizer.learning_rate.dtype
        if rate != float(keras.ops.convert_to_tensor(self._rate_set, dtype)):
            name = type(self).__name__
            raise ValueError(
                f"`{name}` sets the learning rate before every batch, and something else, another "
                f"callback perhaps, has set it too: {name} left {self._rate_set:g}. Take out one "
                f"or the other. Received: learning_rate={rate:g}"
            )

    def _look_ahead(self, batch: int) -> _RatesAhead:
        """Computes the rates of this batch and of those that follow it in the epoch."""
        end = batch + optimizers.AHEAD
        if steps := self.params.get("steps"):
            end = min(end, max(steps, batch + 1))
        rates = self.policy.rate(self._iteration(np.arange(batch, end)))
        tensors = optimizers.as_rates(self.model.optimizer, rates)
        return _RatesAhead(range(batch, end), rates.tolist(), tensors)

    def _begin_cycle_if_asked(self) -> bool:
        if asked := self._reset_asked:
            self._reset_asked = False
            self._updates_at_origin = optimizers.updates(self.model.optimizer)
        return asked

    def _follow_with_momentum(self) -> None:
        if self.cycle_momentum:
            optimizer = self.model.optimizer
            self._release_momentum = cycle_momentum(optimizer, self.policy, self._updates_at_origin)
            self.model.make_train_function(force=True)  # The step is to be traced with it.

    def _require_steps(self) -> None:
        """Raises an error if the number of batches in an epoch is not known."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if not steps:
            each = optimizers.batches_an_update(self.model.optimizer)
            length = f"{epochs} * batches per epoch" + (f" / {each}" if each > 1 else "")
            raise ValueError(
                f"{self._ask_for_length(length)}. Or pass steps_per_epoch to fit. These data do "
                f"not say how many batches an epoch has. Received: epochs={epochs}, steps={steps}"
            )

    def _ask_for_length(self, length: str) -> str:
        """Returns which argument is needed, and how it follows from the training's length."""
        raise NotImplementedError

    def _span(self, epoch: int) -> None:
        """Makes the policy that spans the training run which is at the beginning of this epoch."""
        steps, seen, each = self.params["steps"], self._batches_at_epoch, self._batches_an_update
        # A run resumed at an epoch began that many epochs ago, or else with the optimizer.
        began = max(0, seen - epoch * steps) // each
        self._updates_at_origin = max(began, self._updates_at_origin)
        end = (seen + (self.params["epochs"] - epoch) * steps) // each
        self.policy = self._spanning(end - self._updates_at_origin)

    def _spanning(self, updates: int) -> Any:
        """Returns a policy over so many updates."""
        raise NotImplementedError

    def _warn_of_other_steps(self, made: int) -> None:
        """Draws a warning if an epoch had another number of batches than Keras announced."""
        steps = self.params["steps"]
        if made != steps and not self._warned_of_other_steps:
            self._warned_of_other_steps = True
            warnings.warn(
                f"{type(self).__name__} spans epochs of {steps} batches, and the last epoch had "
                f"{made}. The cycle will not end with the training run. Let the data last for "
                "steps_per_epoch batches, a multiple of steps_per_execution.",
                stacklevel=2,
            )

    def _check_end(self, epoch: int) -> None:
        """Draws a warning if the training to come ends in mid-cycle."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if steps and epochs:
            self._warn_of_a_cycle_cut_short(epoch, epochs, steps)

    def _warn_of_a_cycle_cut_short(self, epoch: int, epochs: int, steps: int) -> None:
        raise NotImplementedError

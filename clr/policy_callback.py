"""`PolicyCallback`: what sets the rate before each batch, and finds where a cycle begins."""

import warnings
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from clr import checks, optimizers, rates
from clr.momentum_in_fit import MomentumInFit
from clr.place import Place

LENGTHS = {"step_size", "step_size_down", "total_steps"}  # Fields that say how long a cycle is.


def field(name: str) -> Any:
    """Returns a property of a callback: a field of its policy, to read and to set.

    A length is `None` as long as the policy has none. A new value holds from the next batch on, for
    a momentum from the next epoch on.
    """

    def get(callback: "PolicyCallback") -> Any:
        spans = callback._spans_fit and name in LENGTHS
        return getattr(callback.policy if spans else callback._shape, name, None)

    def put(callback: "PolicyCallback", value: Any) -> None:
        callback._reshape(**{name: value})

    return property(get, put, doc="The argument of this name.")


class PolicyCallback(keras.callbacks.Callback):
    """Sets the rate that a policy says before each batch: what the callbacks here have in common.

    Args:
        shape: The policy. If it spans `fit`, its length does not count.
        spans_fit: Whether each `fit` gets a policy that spans it, from `_spanning`.
        cycle_momentum: Whether the optimizer's momentum follows the policy too.

    Attributes:
        history: `{"lr": [...], "iterations": [...]}`, the rate that each batch was trained with and
            the batch's number, from 1; with `cycle_momentum` also `"momentum"`.
        policy: The policy in force. `None` while it has no length: before the first epoch of `fit`.
    """

    async_safe = True  # `on_train_batch_end` may run beside the next batch.

    def __init__(self, shape: Any, spans_fit: bool, cycle_momentum: bool):
        super().__init__()
        self._shape, self._spans_fit = shape, spans_fit
        self.policy: Any = None if spans_fit else shape
        self.cycle_momentum = checks.flag("cycle_momentum", cycle_momentum)
        self._refuse_idle_momenta()
        self.history: dict[str, list] = {}
        self._lists_in_history()
        self._trained, self._reset_asked = 0, False
        self._place, self._rate = Place(), rates.OneRate()
        self._begin_training()

    def _lists_in_history(self) -> None:
        for name in ("lr", "iterations", *(["momentum"] if self.cycle_momentum else [])):
            self.history.setdefault(name, [])

    def _refuse_idle_momenta(self) -> None:
        """Raises an error if bounds were given to a momentum that does not cycle."""
        for name in () if self.cycle_momentum else ("base_momentum", "max_momentum"):
            value = getattr(self._shape, name)
            if value != getattr(type(self._shape), name):  # Its default.
                raise ValueError(
                    f"`{name}` has no effect unless the momentum cycles: pass cycle_momentum=True, "
                    f"too. Received: {name}={value!r}, cycle_momentum=False"
                )

    def _begin_training(self, in_fit: bool = False) -> None:
        self._in_training, self._in_fit = False, in_fit
        self._epochs_begun, self._has_warned = 0, False
        self._begun, self._ended = 0, list[int]()  # Batches of the epoch.
        self._last_batch = -1
        self._rate_set: Any = None
        self._ahead = rates.RatesAhead()
        self._momentum: MomentumInFit | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle holds: all but the model.

        A copy goes on where this one stands, as this one does in a second `fit`.
        """
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__, _model=None, params=None)
        copy._begin_training()
        return copy.__dict__

    def reset(self) -> None:
        """Starts a new cycle with the next epoch. A policy that spans `fit` spans what is left."""
        self._reset_asked = True

    def set_model(self, model: keras.Model) -> None:
        """Attaches the callback to a compiled model; Keras calls it at the start of `fit`.

        Raises:
            ValueError: The model's rate can't be set, or is not the one that it trains with.
        """
        super().set_model(model)
        self._rate = self._find_rate(model)
        optimizers.require_one(model, type(self).__name__)
        self._drop_unfinished()  # Of a training run that was broken off.
        self._place.meet(model.optimizer, self._spans_fit)
        # Before any callback's on_train_begin: BackupAndRestore moves the count there, and what was
        # asked for before `fit` means the count of then.
        self._begin_cycle_if_asked()

    def _find_rate(self, model: keras.Model) -> rates.OneRate:
        return rates.of(
            model,
            f"`{type(self).__name__}` needs a compiled model and an optimizer",
            "For a cyclical schedule use CyclicalLearningRate, without this callback.",
        )

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets the former training run.

        Raises:
            RuntimeError: No model is attached.
            ValueError: The policy is to span this `fit`, and the length of `fit` is not known.
        """
        self._require_model()
        self._begin_training(in_fit=self._told("verbose") is not None)
        self._in_training = True
        # A cycled momentum goes by the optimizer's count. Read each time, history is right then.
        each_batch = self.cycle_momentum and optimizers.scales_loss(self._place.optimizer)
        self._place.counter.begin(self.model, self._in_fit, each_batch)
        if self._spans_fit:
            self.policy = None  # The first epoch's number is still missing.
            self._require_steps()

    def _require_model(self) -> None:
        if self._place.optimizer is None:
            raise RuntimeError(
                f"`{type(self).__name__}` has no model yet. In a loop of your own call "
                "set_model(model) first, then on_train_begin() and, before each batch, "
                "on_train_batch_begin(batch). Received: model=None"
            )

    def on_train_end(self, logs: dict | None = None) -> None:
        """Makes the momentum constant again."""
        self._require_model()
        if self._momentum is not None:
            self._momentum.release()
        self._momentum, self._in_training = None, False
        self._place.leave(self.model.optimizer)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Reads the optimizer's count, from which this epoch's places in the cycle follow."""
        if not self._in_training:
            self.on_train_begin()
        place, optimizer, steps = self._place, self.model.optimizer, self._told("steps")
        asked, first, before = self._begin_cycle_if_asked(), not self._epochs_begun, place.batches
        place.begin_epoch(optimizer)
        if self._rate_set is None or place.batches <= before:
            # Nothing was set yet, or the optimizer's state was put back, and its rate with it.
            self._rate = self._find_rate(self.model)
            self._rate_set = self._rate.read(self.model)
        if not first and self._spans_fit:
            self._warn_of_other_steps(place.batches - before)
        if not place.origin_is_known and place.find_origin(epoch, steps, self._spans_fit):
            self._warn_of_no_count(epoch)
        if self._spans_fit and (asked or first):
            self._span(epoch)
        if self.cycle_momentum:
            self._follow_with_momentum()
        if not self._spans_fit:
            self._check_end(epoch, place.batches - before)
        self._begun, self._ended, self._last_batch = 0, [], -1
        self._ahead, place.was_used = rates.RatesAhead(), True
        self._epochs_begun += 1

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets the rate for this batch. Only before an epoch's first is the former one read back.

        Raises:
            ValueError: The rate is another than the one that was set last.
        """
        if batch not in self._ahead.batches or batch <= self._last_batch:
            self._look_ahead(batch)
        place = batch - self._ahead.batches.start
        self._last_batch = batch
        self._begun += 1
        self._rate_set = self._ahead.rates[place]
        self._rate.set(self.model, self._ahead.tensors[place])
        self._trained += 1
        self.history["lr"].append(self._rate_set)
        self.history["iterations"].append(self._trained)
        if self._momentum is not None:
            counter = self._place.counter
            updates = counter.updates_before(batch) - counter.skipped
            self.history["momentum"].append(self._momentum.begin_step(updates))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Notes that there was such a batch."""
        self._ended.append(batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Puts the rate of the epoch's last batch into the logs, as Keras's scheduler does."""
        self._require_model()
        begun = self._begun
        found_no_data = self._drop_unfinished()
        trained = 1 + max(self._ended, default=-1)
        if self.model.steps_per_execution > 1:
            trained = min(trained, self._told("steps") or trained)
        optimizer, place = self.model.optimizer, self._place
        place.counter.end_epoch(optimizer, trained, found_no_data)
        batches = trained if self._in_fit else begun
        if batches and place.counter.now(optimizer) == place.updates:
            self._warn_of_no_update(batches)
        if self.history["lr"]:
            rate = self.history["lr"][-1]
            if found_no_data:
                self._rate_set = rate
                self._rate.set(self.model, *self._rate.tensors(self.model, [rate]))
            if logs is not None:
                logs["learning_rate"] = rate

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
        return self.policy.cycles_before(self._iterations())

    def _iterations(self) -> int:
        """Returns the policy's iteration that comes next."""
        return self._place.iterations(getattr(self.model, "optimizer", None))

    def _move_to(self, iteration: int) -> None:
        """Lets the policy's iteration that comes next be this one."""
        self._place.move_to(getattr(self.model, "optimizer", None), iteration)
        self._ahead = rates.RatesAhead()

    def _told(self, name: str) -> Any:
        """Returns what `fit`, or a `CallbackList`, says of the training run; `None` if nothing."""
        return (self.params or {}).get(name)

    def _drop_unfinished(self) -> bool:
        """Forgets a batch that was begun and not trained. Returns whether there was one."""
        unfinished = self._in_fit and self._begun > len(self._ended)
        if unfinished:
            self._trained -= 1
            for values in self.history.values():
                del values[-1:]
        self._begun = len(self._ended)
        return unfinished

    def _refuse_another_hand(self) -> None:
        """Raises an error if the rate is another than this callback, or `fit`'s start, left."""
        if not self._rate.is_at(self.model, self._rate_set):
            name = type(self).__name__
            raise ValueError(
                f"`{name}` sets the learning rate before every batch, and something else, another "
                f"callback perhaps, has set it too: {name} left {self._rate_set:g}. Take out one "
                f"or the other. Received: learning_rate={self._rate.told(self.model)}"
            )

    def _look_ahead(self, batch: int) -> None:
        """Computes the rates of this batch and of those that follow it in the epoch."""
        if not self._epochs_begun:  # A loop of one's own, without epochs.
            self.on_epoch_begin(0)
        counter = self._place.counter
        # In a loop of one's own a step may also put back a rate that it kept from before.
        if not self._ahead.batches or (counter.each_batch and not self._in_fit):
            self._refuse_another_hand()
            self._lists_in_history()  # Scripts set `history = {}` to begin a new one.
        if counter.each_batch or batch <= self._last_batch:
            counter.read(self.model.optimizer, batch)
        end = batch + (1 if counter.each_batch else optimizers.AHEAD)
        if steps := self._told("steps"):
            end = min(end, max(steps, batch + 1))
        values = self.policy.rate(self._place.iteration_before(np.arange(batch, end)))
        tensors = self._rate.tensors(self.model, values)
        self._ahead = rates.RatesAhead(range(batch, end), values.tolist(), tensors)

    def _reshape(self, **values: Any) -> None:
        """Takes new values for fields of the policy. The place in the cycle stays the same."""
        self._shape = replace(self._shape, **values)
        if not LENGTHS.isdisjoint(values):
            self._spans_fit = False
        if not self._spans_fit:
            self.policy = self._shape
        elif self.policy is not None:
            self.policy = self._spanning(self.policy.total_steps)
        self._ahead = rates.RatesAhead()

    def _begin_cycle_if_asked(self) -> bool:
        if asked := self._reset_asked:
            self._reset_asked = False
            self._place.move_to(self.model.optimizer, 0)
        return asked

    def _warn_of_no_count(self, epoch: int) -> None:
        name, place = type(self).__name__, -self._place.origin
        warnings.warn(
            f"This training starts at epoch {epoch} (initial_epoch), and its optimizer has made no "
            f"update: only weights were kept. {name} goes on with iteration {place} of its cycle"
            + (". " if place else ", because these data do not say how long an epoch is. ")
            + "Call its reset() before fit to begin a new cycle.",
            stacklevel=2,
        )

    def _follow_with_momentum(self) -> None:
        """Lets the momentum cycle, by the optimizer's own count of updates."""
        origin = self._place.origin - self._place.counter.skipped
        if self._momentum is not None:
            if self._momentum.follows(self.policy, origin):
                return
            self._momentum.release()
        self._momentum = MomentumInFit(self.model, self.policy, origin)

    def _require_steps(self) -> None:
        """Raises an error if the number of batches in an epoch is not known."""
        steps, epochs = self._told("steps"), self._told("epochs")
        if not steps or epochs is None:
            each = optimizers.batches_an_update(self.model.optimizer)
            length = f"{'epochs' if epochs is None else epochs} * batches per epoch" + (
                f" / {each}" if each > 1 else ""
            )
            unknown = "have no batch" if steps == 0 else "do not say how many batches an epoch has"
            raise ValueError(
                f"{self._ask_for_length(length)}. Or pass steps_per_epoch to fit. These data "
                f"{unknown}. Received: epochs={epochs}, steps={steps}"
            )

    def _ask_for_length(self, length: str) -> str:
        """Returns which argument is needed, and how it follows from the training's length."""
        raise NotImplementedError

    def _span(self, epoch: int) -> None:
        """Makes the policy that spans the training run which is at the beginning of this epoch."""
        left = (self._told("epochs") - epoch) * self._told("steps")
        self.policy = self._spanning(self._place.iteration_after(left))

    def _spanning(self, updates: int) -> Any:
        """Returns a policy over so many updates."""
        raise NotImplementedError

    def _warn_of_other_steps(self, made: int) -> None:
        """Draws a warning if an epoch had another number of batches than Keras announced."""
        steps = self._told("steps")
        if made != steps and not self._has_warned:
            self._has_warned = True
            name = type(self).__name__
            if self._place.counter.each_batch:
                said = f"{name} spans epochs of {steps} updates, and the last epoch made {made}"
                remedy = f"Give it the number of updates, {made} an epoch."
            else:
                said = f"{name} spans epochs of {steps} batches, and the last epoch had {made}"
                remedy = (
                    "Let the data last for steps_per_epoch batches, a multiple of "
                    "steps_per_execution."
                )
            warnings.warn(
                f"{said}. The cycle will not end with the training run. {remedy}", stacklevel=2
            )

    def _warn_of_no_update(self, trained: int) -> None:
        if not self._has_warned:
            self._has_warned = True
            name = type(self).__name__
            warnings.warn(
                f"`model.optimizer` made no update in an epoch of {trained} batches, so that the "
                f"rates which {name} set had no effect. Does the step use another optimizer, or a "
                "copy of its variables that is not written back?",
                stacklevel=2,
            )

    def _check_end(self, epoch: int, made: int) -> None:
        """Draws a warning if the training to come ends in mid-cycle.

        Where the updates of an epoch are not its batches, that is known after the first.
        """
        counts_updates = self._place.counter.each_batch
        steps, epochs = self._told("steps"), self._told("epochs")
        if steps and epochs and self._epochs_begun == counts_updates:
            steps = made if counts_updates else steps
            begin = self._place.updates - self._place.origin
            end = self._place.iteration_after((epochs - epoch) * steps)
            self._warn_of_a_cycle_cut_short(epoch, begin, end, steps)

    def _warn_of_a_cycle_cut_short(self, epoch: int, begin: int, end: int, steps: int) -> None:
        """Draws a warning if iteration `end`, with which training ends, is in mid-cycle."""
        raise NotImplementedError

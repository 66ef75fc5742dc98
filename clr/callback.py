"""`CyclicLR` and `OneCycleLR`: the policies as Keras callbacks."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from clr import checks, optimizers
from clr.momentum import cycle_momentum
from clr.optimizers import assign  # noqa: F401  (offered here, too)
from clr.policies import CyclicPolicy, OneCyclePolicy

AHEAD = 256  # Batches whose rates are computed together: one by one each takes twice as long.


class _RatesAhead(NamedTuple):
    """The rates of the batches to come, as numbers and as tensors."""

    batches: range = range(0)
    rates: Sequence[float] = ()
    tensors: Sequence[Any] = ()


class PolicyCallback(keras.callbacks.Callback):
    """Sets the rate that a policy says before each batch: what the callbacks here have in common.

    Args:
        policy: The policy.
        cycle_momentum: Whether the optimizer's momentum follows the policy too.

    Attributes:
        history: `{"lr": [...], "iterations": [...]}`, the rate that each batch was trained with and
            the batch's number, from 1; with `cycle_momentum` also `"momentum"`.
        policy: The policy in force.
    """

    def __init__(self, policy: Any, cycle_momentum: bool = False):
        super().__init__()
        self.policy = policy
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
        self._end_was_checked = False
        self._release_momentum: Callable[[], None] | None = None

    def reset(self) -> None:
        """Starts a new cycle with the next epoch."""
        self._reset_asked = True

    def set_model(self, model: keras.Model) -> None:
        """Attaches the callback to a compiled model; Keras calls it at the start of `fit`."""
        super().set_model(model)
        optimizers.require_fixed_rate(
            model.optimizer,
            f"`{type(self).__name__}` needs a compiled model and an optimizer",
            "For a cyclical schedule use CyclicalLearningRate, without this callback.",
        )
        if model.optimizer is not self._optimizer:
            self._optimizer, self._updates_at_origin = model.optimizer, 0
        # Before any callback's on_train_begin: BackupAndRestore moves the count there, and what was
        # asked for before `fit` means the count of then.
        self._begin_cycle_if_asked()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets what belonged to a former training; lets the momentum cycle, if it is to."""
        self._end_was_checked = False
        self._rate_set = None
        self._follow_with_momentum()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Makes the momentum constant again."""
        if self._release_momentum is not None:
            self._release_momentum()
            self._release_momentum = None
            self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Reads the optimizer's count, from which this epoch's places in the cycle follow."""
        if self._begin_cycle_if_asked():
            self._follow_with_momentum()
        self._batches_an_update = optimizers.batches_an_update(self.model.optimizer)
        batches = optimizers.batches(self.model.optimizer)
        if self._rate_set is None or batches <= self._batches_at_epoch:
            # Nothing was set yet, or the optimizer's state was put back, and its rate with it.
            self._rate_set = optimizers.rate(self.model.optimizer)
        self._batches_at_epoch = batches
        self._ahead = _RatesAhead()
        if not self._end_was_checked:
            self._end_was_checked = True
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
        """Returns how many cycles have ended, by the optimizer's count of updates."""
        updates = optimizers.updates(self.model.optimizer)
        return (updates - self._updates_at_origin) // self.policy.cycle_length

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
        end = batch + AHEAD
        if steps := self.params.get("steps"):
            end = min(end, max(steps, batch + 1))
        rates = self.policy.rate(self._iteration(np.arange(batch, end)))
        dtype = self.model.optimizer.learning_rate.dtype
        tensors = keras.ops.unstack(keras.ops.convert_to_tensor(rates, dtype))
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

    def _check_end(self, epoch: int) -> None:
        """Draws a warning if the training to come ends in mid-cycle."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if steps and epochs:
            self._warn_of_a_cycle_cut_short(epoch, epochs, steps)

    def _warn_of_a_cycle_cut_short(self, epoch: int, epochs: int, steps: int) -> None:
        raise NotImplementedError


class CyclicLR(PolicyCallback):
    """Lets the learning rate swing between two bounds, batch by batch.

    A drop-in for the reference callback: a script that makes and uses one stays as it is.

    ```python
    cycle = CyclicLR(base_lr=1e-7, max_lr=1e-2, step_size=8 * (len(x) // 64))
    model.fit(x, y, batch_size=64, epochs=96, callbacks=[cycle])
    plt.plot(cycle.history["lr"])
    ```

    The place in the cycle comes from the optimizer's own count of updates, read at each epoch's
    start, plus the batch's number within the epoch. A second `fit`, a resumed run and a model
    loaded from disk therefore go on where they stopped; `reset`, or compiling anew with a new
    optimizer, starts a new cycle. With `steps_per_execution=n` the rate changes once every n
    batches (`CyclicalLearningRate` stays exact there); under gradient accumulation it changes with
    each update.

    Args:
        base_lr: Lower bound. Defaults to `0.001`.
        max_lr: Upper bound. Defaults to `0.006`.
        step_size: Iterations in half a cycle: **batches, not epochs**. Defaults to `2000`.
        mode: `"triangular"` (default), `"triangular2"` or `"exp_range"`.
        gamma: Decay per iteration in mode `"exp_range"`, in (0, 1]. Defaults to `1.0`.
        scale_fn: A function of one number to multiply the amplitude with, in place of `mode`.
        scale_mode: `"cycle"` (default): `scale_fn` is called with the cycle's number, from 1;
            `"iterations"`: with the iteration's, from 0.
        step_size_down: Iterations of the falling half. Defaults to `step_size`.
        cycle_momentum: Whether the optimizer's momentum (Adam's `beta_1`) swings against the rate,
            inside the compiled step; see `cycle_momentum`. Defaults to `False`.
        base_momentum: Where it stands at the first turn. Defaults to `0.8`.
        max_momentum: Where it stands at the start and end of each cycle. Defaults to `0.9`.

    Attributes:
        history: `{"lr": [...], "iterations": [...]}`, the rate that each batch was trained with and
            the batch's number, from 1; with `cycle_momentum` also `"momentum"`. One entry an
            execution if `steps_per_execution > 1`.
        policy: The `clr.policies.CyclicPolicy` in force.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument; at the start of `fit`, an optimizer built on a
            `LearningRateSchedule`, or without a momentum that is to cycle; at an epoch's start, a
            rate that something else has set as well.

    Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
    section 3; the callback of github.com/bckenstler/CLR.
    """

    def __init__(
        self,
        base_lr: float = 0.001,
        max_lr: float = 0.006,
        step_size: int = 2000,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[Any], Any] | None = None,
        scale_mode: str = "cycle",
        step_size_down: int | None = None,
        cycle_momentum: bool = False,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
    ):
        policy = CyclicPolicy(
            base_lr=base_lr,
            max_lr=max_lr,
            step_size=step_size,
            mode=mode,
            gamma=gamma,
            scale_fn=scale_fn,
            scale_mode=scale_mode,
            step_size_down=step_size_down,
            base_momentum=base_momentum,
            max_momentum=max_momentum,
        )
        super().__init__(policy, cycle_momentum)

    def reset(
        self,
        new_base_lr: float | None = None,
        new_max_lr: float | None = None,
        new_step_size: int | None = None,
    ) -> None:
        """Starts a new cycle with the next epoch, optionally with new bounds or another step size.

        Args:
            new_base_lr: Lower bound from now on. `None` keeps the present one.
            new_max_lr: Upper bound from now on. `None` keeps the present one.
            new_step_size: Iterations in each half from now on. `None` keeps the present ones.

        Raises:
            ValueError: A new value that does not fit the others.
        """
        old = self.policy
        self.policy = replace(
            old,
            base_lr=old.base_lr if new_base_lr is None else new_base_lr,
            max_lr=old.max_lr if new_max_lr is None else new_max_lr,
            step_size=old.step_size if new_step_size is None else new_step_size,
            step_size_down=old.step_size_down if new_step_size is None else None,
        )
        super().reset()

    _reset = reset  # The reference's name for it.

    def _warn_of_a_cycle_cut_short(self, epoch: int, epochs: int, steps: int) -> None:
        length = self.policy.cycle_length
        begin, end = self._iteration(0), self._iteration((epochs - epoch) * steps)
        if end % length == 0:
            return
        cycles = max(round(end / length), begin // length + 1)
        left = (cycles * length - begin) * self._batches_an_update
        whole = max(1, round(left / steps))
        message = (
            f"Training will stop in mid-cycle, {end % length} iterations into a cycle of {length}. "
            f"The nearest whole number of epochs is epochs={epoch + whole}"
        )
        if whole * steps != left:
            message += (
                f", to within {abs(left - whole * steps)} of an epoch's {steps} batches. Cycles "
                f"end where epochs do if step_size is a multiple of {steps}"
            )
        warnings.warn(message + ".", stacklevel=2)


class OneCycleLR(PolicyCallback):
    """Raises the rate once and lets it fall far below its start, over the whole training.

    ```python
    steps = len(x) // 64
    cycle = OneCycleLR(max_lr=0.1, total_steps=24 * steps)
    model.fit(x[: 64 * steps], y[: 64 * steps], batch_size=64, epochs=24, callbacks=[cycle])
    ```

    The optimizer's momentum (Adam's `beta_1`) goes the opposite way, inside the compiled step. The
    place in the cycle comes from the optimizer's own count of updates, as with `CyclicLR`.

    Args:
        max_lr: The rate at the turn. Above 0.
        total_steps: Iterations of the training: epochs times iterations per epoch.
        pct_start: Share of them in which the rate rises, in (0, 1). Defaults to `0.3`.
        anneal_strategy: `"cos"` (default) or `"linear"`.
        div_factor: What `max_lr` is divided by for the first rate. Defaults to `25.0`.
        final_div_factor: What the first rate is divided by for the last. Defaults to `1e4`.
        three_phase: Whether the fall pauses at the first rate, as in the paper. Defaults to
            `False`, as in fastai and PyTorch.
        cycle_momentum: Whether the momentum cycles. Defaults to `True`.
        base_momentum: The momentum at the turn. Defaults to `0.85`.
        max_momentum: The momentum at the start and the end. Defaults to `0.95`.

    Attributes:
        history: As `CyclicLR`'s.
        policy: The `clr.policies.OneCyclePolicy` in force.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument; at the start of `fit`, an optimizer built on a
            `LearningRateSchedule`, or without a momentum that is to cycle; at an epoch's start, a
            rate that something else has set as well.

    Sources: Smith and Topin, "Super-Convergence" (arXiv:1708.07120), section 2; the scheduler
    `torch.optim.lr_scheduler.OneCycleLR`, whose arguments these are.
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
    ):
        policy = OneCyclePolicy(
            max_lr=max_lr,
            total_steps=total_steps,
            pct_start=pct_start,
            anneal_strategy=anneal_strategy,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            three_phase=three_phase,
            base_momentum=base_momentum,
            max_momentum=max_momentum,
        )
        super().__init__(policy, cycle_momentum)

    def _warn_of_a_cycle_cut_short(self, epoch: int, epochs: int, steps: int) -> None:
        end, total = self._iteration((epochs - epoch) * steps), self.policy.total_steps
        if end != total:
            warnings.warn(
                f"Training will stop after iteration {end} of a cycle of total_steps={total}: "
                + ("before its end" if end < total else "the rate stays at its last and lowest")
                + f". For one cycle over this training set total_steps={end}.",
                stacklevel=2,
            )

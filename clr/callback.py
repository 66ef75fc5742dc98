"""`CyclicLR` and `OneCycleLR`: the policies as Keras callbacks."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from clr import checks
from clr.optimizers import AHEAD as AHEAD  # Offered here, too.
from clr.optimizers import assign as assign
from clr.policies import CyclicPolicy, OneCyclePolicy, WholeCyclesPolicy
from clr.policy_callback import PolicyCallback, field

STEP_SIZE = 2000  # The reference callback's default.
LONG = 10**9  # Updates, more than there ever are: to check arguments before a length is known.


class CyclicLR(PolicyCallback):
    """Lets the learning rate rise and fall between two bounds, batch by batch.

    A drop-in for the reference callback: a script that makes and uses one stays as it is.

    ```python
    cycle = CyclicLR(base_lr=1e-7, max_lr=1e-2, step_size=8 * (len(x) // 64))
    model.fit(x, y, batch_size=64, epochs=96, callbacks=[cycle])
    plt.plot(cycle.history["lr"])
    ```

    Or name the number of `cycles`, and they span the `fit` that they are in:

    ```python
    model.fit(x, y, batch_size=64, epochs=96, callbacks=[CyclicLR(1e-7, 1e-2, cycles=6)])
    ```

    The last cycle ends with the last update. If the updates do not divide into `cycles`, the first
    cycles are one update longer than the others. If you cut one training run into several calls of
    `fit`, give `step_size`. Let `steps_per_epoch` be a multiple of `steps_per_execution`.

    A new callback begins a new cycle, even on a model that was trained before. In a second `fit`,
    the same callback goes on where it stopped; with `cycles`, a new `fit` is a new cycle. A `fit`
    whose first epoch is not 0 (`initial_epoch` or BackupAndRestore) is a resumed run: a new
    callback goes on from the optimizer's count of updates there, or from the epochs, with a
    warning, if only weights were kept. `reset` begins a new cycle at any time.

    The cycle moves on by the optimizer's updates: also in a `train_step` of your own that makes
    several of them a batch, or one now and then. An update that loss scaling skips counts. Where
    TensorFlow counts one too many because the data have ended, the count is set right. In a loop of
    your own call `set_model`, and before each batch `on_train_batch_begin`.

    With `steps_per_execution=n` the rate changes once every n batches (`CyclicalLearningRate` stays
    exact there); under gradient accumulation it changes with each update.

    The optimizers of a `keras.optimizers.MultiOptimizer` move together. The bounds are those of the
    one with the highest rate, and every other keeps its ratio to it: of `SGD(0.01)` and `SGD(0.1)`
    the first stays at a tenth of the second. `history` holds the highest rate.

    Args:
        base_lr: Lower bound. Defaults to `0.001`.
        max_lr: Upper bound. Defaults to `0.006`.
        step_size: Iterations in half a cycle: **batches, not epochs**. Under gradient accumulation,
            updates. Defaults to 2000, unless `cycles` is given.
        mode: `"triangular"` (default), `"triangular2"` or `"exp_range"`.
        gamma: Decay per iteration in mode `"exp_range"`, in (0, 1]. Defaults to `1.0`.
        scale_fn: A function of one number to multiply the amplitude with, in place of `mode`.
        scale_mode: `"cycle"` (default): `scale_fn` is called with the cycle's number, from 1;
            `"iterations"`: with the iteration's, from 0.
        step_size_down: Iterations of the falling half. Defaults to `step_size`. Not with `cycles`.
        cycle_momentum: Whether the optimizer's momentum (Adam's `beta_1`) goes against the rate,
            inside the compiled step; see `cycle_momentum`. Defaults to `False`.
        base_momentum: Where it stands at the first turn. Defaults to `0.8`.
        max_momentum: Where it stands at the start and end of each cycle. Defaults to `0.9`.
        cycles: The number of whole cycles that span one `fit`, in place of `step_size`: a whole
            number, at least 1. Defaults to `None`.

    Attributes:
        history: `{"lr": [...], "iterations": [...]}`, the rate that each batch was trained with and
            the batch's number, from 1; with `cycle_momentum` also `"momentum"`. One entry an
            execution if `steps_per_execution > 1`.
        policy: The `clr.policies.CyclicPolicy` in force. With `cycles` it is a `WholeCyclesPolicy`,
            and `None` until the first epoch of a `fit` begins.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument, or `cycles` together with `step_size`; at the start of `fit`, an
            optimizer built on a `LearningRateSchedule`, or without a momentum that is to cycle, or
            a model with optimizers of its own, or `cycles` and data that do not say how many
            batches an epoch has; at an epoch's start, a rate that something else has set as well.

    The arguments are attributes, too. Set one, and it holds from the next batch on, and the cycle
    goes on; a bound of the momentum holds from the next epoch on.

    Sources: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
    section 3; the callback of github.com/bckenstler/CLR.
    """

    def __init__(
        self,
        base_lr: float = 0.001,
        max_lr: float = 0.006,
        step_size: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[Any], Any] | None = None,
        scale_mode: str = "cycle",
        step_size_down: int | None = None,
        cycle_momentum: bool = False,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        cycles: int | None = None,
    ):
        if cycles is not None:
            cycles = checks.count("cycles", cycles)
            _refuse_both(cycles, "step_size", step_size)
            _refuse_both(cycles, "step_size_down", step_size_down)
        policy = CyclicPolicy(
            base_lr=base_lr,
            max_lr=max_lr,
            step_size=STEP_SIZE if step_size is None else step_size,
            mode=mode,
            gamma=gamma,
            scale_fn=scale_fn,
            scale_mode=scale_mode,
            step_size_down=step_size_down,
            base_momentum=base_momentum,
            max_momentum=max_momentum,
        )
        super().__init__(policy, cycles is not None, cycle_momentum)
        self._cycles = cycles

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
            new_step_size: Iterations in each half from now on, in place of `cycles`, too. `None`
                keeps the present ones. `cycles` then span what is left of `fit`, or the next one.

        Raises:
            ValueError: A new value that does not fit the others.
        """
        given = {"base_lr": new_base_lr, "max_lr": new_max_lr, "step_size": new_step_size}
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if new_step_size is not None:
            values["step_size_down"] = None
        self._reshape(**values)
        super().reset()

    _reset = reset  # The reference's name for it, as for what follows.

    base_lr, max_lr = field("base_lr"), field("max_lr")
    step_size, step_size_down = field("step_size"), field("step_size_down")
    mode, gamma = field("mode"), field("gamma")
    base_momentum, max_momentum = field("base_momentum"), field("max_momentum")

    @property
    def scale_fn(self) -> Callable[[Any], Any]:
        """The function that the amplitude is multiplied with, one of your own or the mode's."""
        shape = self._shape
        return shape.scale_fn or (lambda x: shape._scale(x, x, np, "float64"))

    @scale_fn.setter
    def scale_fn(self, value: Callable[[Any], Any] | None) -> None:
        self._reshape(scale_fn=value)

    @property
    def scale_mode(self) -> str:
        """Whether that function is called with the `"cycle"`'s number or the `"iterations"`."""
        by_iteration = self._shape.scale_fn is None and self._shape.mode == "exp_range"
        return "iterations" if by_iteration else self._shape.scale_mode

    @scale_mode.setter
    def scale_mode(self, value: str) -> None:
        self._reshape(scale_mode=value)

    @property
    def clr_iterations(self) -> int:
        """The iteration of the cycles that comes next, from 0. Set it to move to another."""
        return self._iterations()

    @clr_iterations.setter
    def clr_iterations(self, value: int) -> None:
        self._move_to(checks.count("clr_iterations", value, minimum=0))

    @property
    def trn_iterations(self) -> int:
        """How many batches were trained with this callback."""
        return self._trained

    def clr(self) -> float:
        """Returns the rate of the iteration that comes next."""
        if self.policy is None:
            raise RuntimeError(
                f"`clr` needs cycles of known length. Those of cycles={self._cycles} have one when "
                "`fit` has begun. Received: policy=None"
            )
        return float(self.policy.rate(self.clr_iterations))

    def _spanning(self, updates: int) -> WholeCyclesPolicy:
        return WholeCyclesPolicy.like(self._shape, self._cycles or 1, updates)

    def _ask_for_length(self, length: str) -> str:
        return (
            f"`step_size` is needed in place of cycles={self._cycles}. For as many cycles, pass "
            f"step_size = {length} / {2 * (self._cycles or 1)}"
        )

    def _warn_of_a_cycle_cut_short(self, epoch: int, begin: int, end: int, steps: int) -> None:
        length = self.policy.cycle_length
        if end % length == 0:
            return
        cycles = max(round(end / length), begin // length + 1)
        left = (cycles * length - begin) * self._place.counter.batches_an_update
        whole = max(1, round(left / steps))
        message = (
            f"Training will stop in mid-cycle, {end % length} iterations into a cycle of {length}. "
            f"The nearest whole number of epochs is epochs={epoch + whole}"
        )
        if whole * steps != left:
            unit = "updates" if self._place.counter.each_batch else "batches"
            message += (
                f", to within {abs(left - whole * steps)} of an epoch's {steps} {unit}. Cycles "
                f"end where epochs do if step_size is a multiple of {steps}"
            )
        warnings.warn(message + ".", stacklevel=2)


def _refuse_both(cycles: int, name: str, value: Any) -> None:
    if value is not None:
        raise ValueError(
            f"`cycles` and `{name}` both say how long a cycle is: give one of them. "
            f"Received: cycles={cycles!r}, {name}={value!r}"
        )


class OneCycleLR(PolicyCallback):
    """Raises the rate once and lets it fall far below its start, over the whole training run.

    ```python
    model.fit(x, y, batch_size=64, epochs=24, callbacks=[OneCycleLR(max_lr=0.1)])
    ```

    The cycle spans the `fit` that it is in: its last iteration is the last update. A new `fit` is a
    new cycle, and a resumed run goes on over the epochs from its own beginning. If you cut one
    training run into several calls of `fit`, give `total_steps`; the cycle then begins, goes on and
    is counted as `CyclicLR`'s. Let `steps_per_epoch` be a multiple of `steps_per_execution`.

    The optimizer's momentum (Adam's `beta_1`) goes the opposite way, inside the compiled step. The
    optimizers of a `MultiOptimizer` move together, as with `CyclicLR`, and so do their momenta.

    Args:
        max_lr: The rate at the turn. Above 0. In a `MultiOptimizer` that of the highest rate.
        total_steps: Iterations of the training run: epochs times batches per epoch. Under gradient
            accumulation, updates. Defaults to `None`: the length of the `fit` it is in.
        pct_start: Share of them in which the rate rises, in (0, 1). Defaults to `0.3`.
        anneal_strategy: `"cos"` (default) or `"linear"`.
        div_factor: What `max_lr` is divided by for the first rate. Defaults to `25.0`.
        final_div_factor: What the first rate is divided by for the last. Defaults to `1e4`.
        three_phase: Whether the fall pauses at the first rate, as in the paper. Defaults to
            `False`, as in fastai and PyTorch.
        cycle_momentum: Whether the momentum cycles. Defaults to `False`: here it gained nothing. In
            PyTorch and fastai it cycles.
        base_momentum: The momentum at the turn. Defaults to `0.85`.
        max_momentum: The momentum at the start and the end. Defaults to `0.95`.

    Attributes:
        history: As `CyclicLR`'s.
        policy: The `clr.policies.OneCyclePolicy` in force. Without `total_steps` it is `None` until
            the first epoch of a `fit` begins.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument; at the start of `fit`, an optimizer built on a
            `LearningRateSchedule`, or without a momentum that is to cycle, or a model with
            optimizers of its own, or no `total_steps` and data that do not say how many batches an
            epoch has; at an epoch's start, a rate that something else has set as well.

    The arguments are attributes, too, as with `CyclicLR`.

    Sources: Smith and Topin, "Super-Convergence" (arXiv:1708.07120), section 2; the scheduler
    `torch.optim.lr_scheduler.OneCycleLR`, whose arguments these are.
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        cycle_momentum: bool = False,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
    ):
        policy = OneCyclePolicy(
            max_lr=max_lr,
            total_steps=LONG if total_steps is None else total_steps,
            pct_start=pct_start,
            anneal_strategy=anneal_strategy,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            three_phase=three_phase,
            base_momentum=base_momentum,
            max_momentum=max_momentum,
        )
        super().__init__(policy, total_steps is None, cycle_momentum)

    max_lr, total_steps, pct_start = field("max_lr"), field("total_steps"), field("pct_start")
    anneal_strategy, three_phase = field("anneal_strategy"), field("three_phase")
    div_factor, final_div_factor = field("div_factor"), field("final_div_factor")
    base_momentum, max_momentum = field("base_momentum"), field("max_momentum")

    def _spanning(self, updates: int) -> OneCyclePolicy:
        if updates < 2:
            raise ValueError(
                "`total_steps` is the training run's length, and must be two updates or more. "
                f"Train longer. Received: total_steps=None, a run of {updates} updates"
            )
        return replace(self._shape, total_steps=updates)

    def _ask_for_length(self, length: str) -> str:
        return f"`total_steps` is needed. For one cycle, pass total_steps = {length}"

    def _warn_of_a_cycle_cut_short(self, epoch: int, begin: int, end: int, steps: int) -> None:
        total = self.policy.total_steps
        if begin >= total:
            warnings.warn(
                f"The one cycle of total_steps={total} has ended, and the rate stays at its last "
                "and lowest. Call reset() before fit, or make a new OneCycleLR, for a new cycle.",
                stacklevel=2,
            )
        elif end != total:
            warnings.warn(
                f"Training will stop after iteration {end} of a cycle of total_steps={total}: "
                + ("before its end" if end < total else "the rate stays at its last and lowest")
                + f". For one cycle over this training run pass total_steps={end}.",
                stacklevel=2,
            )

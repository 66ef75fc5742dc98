"""`CyclicLR`: the cyclical learning rate as a Keras callback."""

import warnings
from collections.abc import Callable
from typing import Any

import keras

from clr.policies import CyclicPolicy


class CyclicLR(keras.callbacks.Callback):
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

    Attributes:
        history: `{"lr": [...], "iterations": [...]}`, the rate that each batch was trained with and
            the batch's number, from 1. One entry an execution if `steps_per_execution > 1`.
        policy: The `clr.policies.CyclicPolicy` in force.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument, or, at the start of `fit`, an optimizer built on a
            `LearningRateSchedule`.

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
    ):
        super().__init__()
        self.policy = CyclicPolicy(
            base_lr, max_lr, step_size, mode, gamma, scale_fn, scale_mode, step_size_down
        )
        self.history: dict[str, list] = {"lr": [], "iterations": []}
        self._optimizer: Any = None
        self._origin = 0  # The optimizer's count of updates at which the first cycle began.
        self._reset_asked = False

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
        self.policy = CyclicPolicy(
            old.base_lr if new_base_lr is None else new_base_lr,
            old.max_lr if new_max_lr is None else new_max_lr,
            old.step_size if new_step_size is None else new_step_size,
            old.mode,
            old.gamma,
            old.scale_fn,
            old.scale_mode,
            old.step_size_down if new_step_size is None else None,
        )
        self._reset_asked = True

    _reset = reset  # The reference's name for it.

    def set_model(self, model: keras.Model) -> None:
        """Attaches the callback to a compiled model; Keras calls it at the start of `fit`."""
        super().set_model(model)
        if not isinstance(getattr(model.optimizer, "learning_rate", None), keras.Variable):
            raise ValueError(
                f"`{type(self).__name__}` needs a compiled model whose optimizer has a fixed "
                "learning_rate, such as SGD(learning_rate=0.01), so that it can set the rate. "
                f"Received: optimizer={model.optimizer!r}, built on a schedule or none. For a "
                "cyclical schedule use CyclicalLearningRate, without this callback."
            )
        if model.optimizer is not self._optimizer:
            self._optimizer, self._origin = model.optimizer, 0
        # Before any callback's on_train_begin: BackupAndRestore moves the count there, and what was
        # asked for before `fit` means the count of then.
        self._begin_cycle_if_asked()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets that this training's end was judged."""
        self._judged = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Reads the optimizer's count, from which this epoch's places in the cycle follow."""
        self._begin_cycle_if_asked()
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        self._accumulation = optimizer.gradient_accumulation_steps or 1
        self._batches_before = self._batches()
        if not self._judged:
            self._judged = True
            self._warn_of_a_cycle_cut_short(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets the rate for this batch. Nothing is read back from the device."""
        lr = float(self.policy.rate(self._place(batch)))
        # Through `self.model`, each time: on JAX a rate set on a kept optimizer is ignored.
        self.model.optimizer.learning_rate = lr
        self.history["lr"].append(lr)
        self.history["iterations"].append(len(self.history["iterations"]) + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Puts the rate of the epoch's last batch into the logs, as Keras's scheduler does."""
        if logs is not None and self.history["lr"]:
            logs["learning_rate"] = self.history["lr"][-1]

    def _batches(self) -> int:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        # The public `iterations` drops the remainder under gradient accumulation.
        return _whole(optimizer._iterations)

    def _place(self, batch: int) -> int:
        return (self._batches_before + batch) // self._accumulation - self._origin

    def _begin_cycle_if_asked(self) -> None:
        if self._reset_asked:
            self._reset_asked = False
            self._origin = _whole(self.model.optimizer.iterations)

    def _warn_of_a_cycle_cut_short(self, epoch: int) -> None:
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if not steps or not epochs:
            return
        length = self.policy.cycle_length
        begin, end = self._place(0), self._place((epochs - epoch) * steps)
        if end % length == 0:
            return
        cycles = max(round(end / length), begin // length + 1)
        left = (cycles * length - begin) * self._accumulation
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


def _whole(variable: Any) -> int:
    return int(keras.ops.convert_to_tensor(variable))

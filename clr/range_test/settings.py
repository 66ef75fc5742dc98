"""What a range test is told, and what it needs: the arguments' checks."""

import math
from dataclasses import dataclass
from typing import Any

import keras

from clr import checks, optimizers
from clr.range_test.batches import has_none, is_arrays, is_endless, is_once
from clr.range_test.resetting import NEEDS

SCHEDULES = ("exponential", "linear")
FEWEST_STEPS = 200  # By default; over the default eight decades, 25 to a decade.


@dataclass(frozen=True)
class Settings:
    """What a range test is told, checked. A result's file keeps them in this order."""

    start_lr: float
    end_lr: float
    num_steps: int | None
    epochs: int | None
    schedule: str
    beta: float
    stop_factor: float | None
    validation_every: int | None
    batch_size: int | None
    metric: str | None
    trials: int | None
    loss: str = "loss"
    validation_steps: int | None = None

    def steps(self, epoch: int | None) -> int:
        """Returns the steps from `start_lr` to `end_lr`.

        Args:
            epoch: Steps in an epoch, or `None` if that is not known.

        Raises:
            ValueError: It has to be known.
        """
        if self.epochs is not None:
            if epoch is None:
                raise ValueError(
                    "`epochs` needs data whose length is known. Pass num_steps instead. "
                    f"Received: epochs={self.epochs!r} and data of unknown length"
                )
            return max(2, self.epochs * epoch)
        return max(epoch or 0, FEWEST_STEPS) if self.num_steps is None else self.num_steps


def count_or_none(name: str, value: Any, minimum: int = 1) -> int | None:
    """Returns a checked count, or `None` where none is given."""
    return None if value is None else checks.count(name, value, minimum=minimum)


def stop_factor_or_none(value: Any) -> float | None:
    """Returns a checked `stop_factor`: `None`, also for infinity, where nothing is to stop it."""
    if value is None or (isinstance(value, checks.NUMBER) and value == math.inf):
        return None
    return checks.above("stop_factor", value, limit=1)


def check(model: Any, x: Any, y: Any, settings: Settings, validation_data: Any) -> None:
    """Checks what no single argument shows.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of its range, or a model that can't be tested.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: model={model!r}")
    if not model.compiled:
        raise ValueError(
            f"`model` must be compiled: call model.compile(...) first. Received: {model.name!r}"
        )
    optimizers.require_fixed_rate(model.optimizer, *NEEDS)
    optimizers.require_one(model, "lr_range_test")
    if x is None:
        raise ValueError("`x` must be the training data, as for `fit`. Received: x=None")
    if not callable(x):
        require_some("x", x)
    _check_targets(model, x, y)
    if settings.schedule == "exponential" and settings.start_lr == 0:
        raise ValueError(
            "`start_lr` must be above 0 for an exponential rise. "
            f"Received: start_lr={settings.start_lr!r}"
        )
    if settings.end_lr <= settings.start_lr:
        raise ValueError(
            "`end_lr` must be above `start_lr`. "
            f"Received: end_lr={settings.end_lr!r}, start_lr={settings.start_lr!r}"
        )
    if settings.num_steps is not None and settings.epochs is not None:
        raise ValueError(
            "`num_steps` and `epochs` say the same thing: pass one. "
            f"Received: num_steps={settings.num_steps!r}, epochs={settings.epochs!r}"
        )
    if settings.metric is not None and not isinstance(settings.metric, str):
        raise TypeError(
            f"`metric` must be a metric's name, or None. Received: metric={settings.metric!r}"
        )
    if not isinstance(settings.loss, str):
        raise TypeError(
            "`loss` must be the name under which the model returns its loss. "
            f"Received: loss={settings.loss!r}"
        )
    if validation_data is None and settings.validation_steps is not None:
        raise ValueError(
            "`validation_steps` goes with `validation_data`. "
            f"Received: validation_steps={settings.validation_steps!r}, validation_data=None"
        )
    if (validation_data is None) != (settings.validation_every is None):
        raise ValueError(
            "`validation_data` and `validation_every` go together. Received: validation_data "
            f"of type {type(validation_data).__name__}, "
            f"validation_every={settings.validation_every!r}"
        )
    if is_once(validation_data):
        raise ValueError(
            "`validation_data` must be data that can be passed through more than once. Received a "
            f"{type(validation_data).__name__}: pass the function that makes it."
        )
    if validation_data is not None and not callable(validation_data):
        require_finite(validation_data, settings.validation_steps)


def require_some(name: str, data: Any) -> None:
    """Checks that there are data, where that can be known beforehand.

    Raises:
        ValueError: There are none.
    """
    if has_none(data):
        raise empty(name, data)


def empty(name: str, data: Any) -> ValueError:
    """Returns the error of data without a batch."""
    kind = type(data).__name__
    return ValueError(f"`{name}` must hold at least one batch. Received: no data, of type {kind}")


def require_finite(validation_data: Any, steps: int | None) -> None:
    """Checks that a validation comes to an end, and that there is something to validate on.

    Raises:
        ValueError: It does not, or there is nothing.
    """
    require_some("validation_data", validation_data)
    if steps is None and is_endless(validation_data):
        raise ValueError(
            "`validation_data` have no end: pass validation_steps, the batches of a validation. "
            f"Received: {type(validation_data).__name__}, validation_steps=None"
        )


def _check_targets(model: keras.Model, x: Any, y: Any) -> None:
    """Checks for targets that were forgotten, or passed along with `x`, where that is certain.

    Raises:
        ValueError: They were.
    """
    if y is not None or not is_arrays(x) or optimizers.has_own_step(model):
        return
    inputs = getattr(model, "inputs", None)
    together = isinstance(x, (tuple, list)) and all(hasattr(part, "shape") for part in x)
    if together and inputs is not None and len(inputs) == 1 < len(x):
        raise ValueError(
            "`x` must be the model's one input. Pass inputs and targets as two arguments: "
            f"lr_range_test(model, x, y). Received: x, a {type(x).__name__} of {len(x)} arrays, "
            "and y=None"
        )
    if model.loss is not None and optimizers.is_keras(type(model).compute_loss):
        raise ValueError(
            f"`y` must be the targets, because the model was compiled with loss={model.loss!r}: "
            "lr_range_test(model, x, y). Received: y=None"
        )

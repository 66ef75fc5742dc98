"""What an `Experiment` takes by name: the methods that set the learning rate, and the optimizers.

The cyclical methods are this package's callbacks; those that they are compared with are Keras's own
schedules.
"""

from typing import TYPE_CHECKING

import keras
from keras.optimizers import schedules

from clr.callback import CyclicLR, OneCycleLR, PolicyCallback
from clr.policies import MODES

if TYPE_CHECKING:
    from clr.training.fitting import Experiment

METHODS = (
    *MODES,
    "one_cycle",
    "constant",
    "time",
    "step",
    "linear",
    "polynomial",
    "cosine",
    "cosine_restarts",
)
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")


def learning_rate(
    experiment: "Experiment", iterations_per_epoch: int
) -> PolicyCallback | schedules.LearningRateSchedule | float:
    """Returns what sets an experiment's rate: a callback, or what an optimizer takes.

    - `"triangular"`, `"triangular2"`, `"exp_range"`: from `min_lr` to `max_lr` in `step_size`
      epochs and back, again and again (`CyclicLR`).
    - `"one_cycle"`: once up to `max_lr` and down to nearly 0 over all epochs (`OneCycleLR`).
    - `"constant"`: `max_lr`.
    - `"time"`: `max_lr / (1 + decay * iteration)` (Keras's `InverseTimeDecay`).
    - `"step"`: `max_lr * factor**n` after n times `step_size` epochs (`ExponentialDecay`).
    - `"linear"`: from `max_lr` to `min_lr` over all epochs (`PolynomialDecay`).
    - `"polynomial"`: the same along `(1 - share)**power` (`PolynomialDecay`).
    - `"cosine"`: the same along half a cosine wave (`CosineDecay`).
    - `"cosine_restarts"`: the same in `2 * step_size` epochs, and anew from `max_lr`
      (`CosineDecayRestarts`; Loshchilov and Hutter, "SGDR", arXiv:1608.03983).

    Args:
        experiment: The experiment.
        iterations_per_epoch: Updates in an epoch.
    """
    e, half = experiment, experiment.step_size * iterations_per_epoch
    total = e.num_epochs * iterations_per_epoch
    match e.clr_method:
        case "one_cycle":
            return OneCycleLR(e.max_lr, total, cycle_momentum=e.cycle_momentum)
        case "constant":
            return e.max_lr
        case "time":
            return schedules.InverseTimeDecay(e.max_lr, 1, e.decay)
        case "step":
            return schedules.ExponentialDecay(e.max_lr, half, e.factor, staircase=True)
        case "linear":
            return schedules.PolynomialDecay(e.max_lr, total, e.min_lr)
        case "polynomial":
            return schedules.PolynomialDecay(e.max_lr, total, e.min_lr, e.power)
        case "cosine":
            return schedules.CosineDecay(e.max_lr, total, e.min_lr / e.max_lr)
        case "cosine_restarts":
            alpha = e.min_lr / e.max_lr
            return schedules.CosineDecayRestarts(e.max_lr, 2 * half, t_mul=1.0, alpha=alpha)
        case mode:
            return CyclicLR(
                base_lr=e.min_lr,
                max_lr=e.max_lr,
                step_size=half,
                mode=mode,
                gamma=e.gamma,
                cycle_momentum=e.cycle_momentum,
            )


def optimizer(
    experiment: "Experiment", rate: float | schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """Returns an experiment's optimizer: Keras's, with SGD's momentum the experiment's.

    Args:
        experiment: The experiment.
        rate: Its learning rate.
    """
    match experiment.optimizer:
        case "adam":
            return keras.optimizers.Adam(rate)
        case "adamw":
            return keras.optimizers.AdamW(rate)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate)
        case _:
            return keras.optimizers.SGD(rate, momentum=experiment.momentum)

"""`Experiment`: what to train, with what sets its learning rate, and the profiles."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from keras.optimizers import schedules

from clr import checks, datasets
from clr.averaging import START, first_epoch
from clr.policies import MODES
from clr.schedule import CyclicalLearningRate, OneCycleLearningRate, PolicySchedule
from clr.training.machine import accelerators

Rate: TypeAlias = schedules.LearningRateSchedule | float

AUTO: Literal["auto"] = "auto"  # A bound that a range test finds before the training.
MIN_LR = 1e-7  # The tutorial's.
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")

# What each profile says where a parameter is left open; the rest are Experiment's defaults.
PROFILES: dict[str, dict[str, Any]] = {
    "full": {},
    "quick": {
        "dataset": "digits",
        "min_lr": 1e-3,
        "max_lr": 1e-1,
        "decay": 1e-2,
        "batch_size": 32,
        "step_size": 2,
        "num_epochs": 8,
        "width": 0.125,
        "bn_momentum": 0.9,
    },
    "recipe": {
        "clr_method": "one_cycle",
        "max_lr": 0.1,
        "batch_size": 128,
        "num_epochs": 24,
        "nesterov": True,
        "weight_decay": 5e-3,
        "label_smoothing": 0.1,
        "dropout": 0.0,
        "crop": True,
        "cutout": 0.25,
    },
}
# What the recipe adds to one-cycle, in the order in which its parts are tried: the options of each.
# Batch size and rate go together.
INGREDIENTS: dict[str, tuple[str, ...]] = {
    "batch": ("batch_size", "max_lr"),
    "dropout": ("dropout",),
    "crop": ("crop",),
    "cutout": ("cutout",),
    "label_smoothing": ("label_smoothing",),
    "weight_decay": ("weight_decay",),
    "nesterov": ("nesterov",),
}


def _cyclic(e: Any, epoch: int) -> Rate:
    return CyclicalLearningRate(
        e.min_lr, e.max_lr, e.step_size * epoch, mode=e.clr_method, gamma=e.gamma
    )


# What sets the rate, by name: for an experiment whose bounds are numbers, and the iterations in an
# epoch. Schedules, because the compiled step computes these itself, at no cost to the loop.
METHODS: dict[str, Callable[[Any, int], Rate]] = {
    **dict.fromkeys(MODES, _cyclic),
    "one_cycle": lambda e, epoch: OneCycleLearningRate(e.max_lr, e.num_epochs * epoch),
    "constant": lambda e, epoch: e.max_lr,
    "time": lambda e, epoch: schedules.InverseTimeDecay(e.max_lr, 1, e.decay),
    "step": lambda e, epoch: schedules.ExponentialDecay(
        e.max_lr, e.step_size * epoch, e.factor, staircase=True
    ),
    "linear": lambda e, epoch: schedules.PolynomialDecay(e.max_lr, e.num_epochs * epoch, e.min_lr),
    "polynomial": lambda e, epoch: schedules.PolynomialDecay(
        e.max_lr, e.num_epochs * epoch, e.min_lr, e.power
    ),
    "cosine": lambda e, epoch: schedules.CosineDecay(
        e.max_lr, e.num_epochs * epoch, e.min_lr / e.max_lr
    ),
    "cosine_restarts": lambda e, epoch: schedules.CosineDecayRestarts(
        e.max_lr, 2 * e.step_size * epoch, t_mul=1.0, alpha=e.min_lr / e.max_lr
    ),
}

CYCLICAL = (*MODES, "one_cycle")  # Of these the momentum can cycle too.
WITHOUT_MIN_LR = ("one_cycle", "constant", "time", "step")  # These have no lower bound.
# Options that only some methods read, and which.
READ_BY: dict[str, tuple[str, ...]] = {
    "min_lr": tuple(method for method in METHODS if method not in WITHOUT_MIN_LR),
    "step_size": (*MODES, "step", "cosine_restarts"),
    "gamma": ("exp_range",),
    "decay": ("time",),
    "factor": ("step",),
    "power": ("polynomial",),
}

BETA_1 = ("adam", "adamw")  # Of these optimizers that is what cycles as the momentum.

# What applies the gradients, by name: for an experiment and its rate.
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": lambda e, rate, **decay: keras.optimizers.SGD(
        rate, momentum=e.momentum, nesterov=e.nesterov, **decay
    ),
    "adam": lambda e, rate, **decay: keras.optimizers.Adam(rate, **decay),
    "adamw": lambda e, rate, **decay: keras.optimizers.AdamW(rate, **decay),
    "rmsprop": lambda e, rate, **decay: keras.optimizers.RMSprop(rate, **decay),
}


def _option(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    """A field with the help that the command line shows for it."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Experiment:
    """What to train. The fields keep the tutorial's names, and by default its values.

    The book's own recipe, `Experiment.from_profile("recipe")`, gives other values to some.

    Each epoch has exactly `examples // batch_size` iterations.

    With `max_lr="auto"`, `train` makes a range test first and takes the bounds that it suggests.
    Every method has a `max_lr`, so this works with all of them. `min_lr` is found too if you leave
    it out. A number that you give for `min_lr` stays, also one that `dataclasses.replace` copies.

    Raises:
        TypeError: A field of the wrong type.
        ValueError: A field out of its range, or one that can have no effect beside another.
    """

    dataset: str = _option(
        "cifar10",
        f"data set to train on: {', '.join(datasets.LOADERS)}, or a folder of images by class",
    )
    clr_method: str = _option("triangular", "what sets the learning rate", tuple(METHODS))
    min_lr: float | Literal["auto"] | None = _option(
        None, "lower bound of the learning rate (base_lr); with max_lr auto: auto"
    )
    max_lr: float | Literal["auto"] = _option(
        1e-2, "upper bound of the learning rate; auto: a range test before training finds it"
    )
    step_size: int = _option(8, "epochs in half a cycle; with step: from drop to drop")
    cycle_momentum: bool = _option(False, "move the momentum against a cyclical rate")
    gamma: float = _option(0.99994, "decay per iteration with exp_range, in (0, 1]")
    decay: float = _option(1e-4, "decay per iteration with time")
    factor: float = _option(0.25, "what each drop multiplies the rate with, in (0, 1], with step")
    power: float = _option(2.0, "exponent with polynomial")
    batch_size: int = _option(64, "images in a batch")
    num_epochs: int = _option(96, "epochs to train")
    width: float = _option(1.0, "multiplies the network's numbers of filters")
    optimizer: str = _option("sgd", "what applies the gradients", tuple(OPTIMIZERS))
    momentum: float = _option(0.9, "SGD's momentum, in [0, 1)")
    nesterov: bool = _option(False, "SGD with Nesterov's momentum")
    weight_decay: float | None = _option(
        None, "share of each weight that an update takes off, times the rate; none: the optimizer's"
    )
    label_smoothing: float = _option(0.0, "share of each label spread over all classes, in [0, 1)")
    dropout: float = _option(0.5, "share of features dropped before the last layer, in [0, 1)")
    bn_momentum: float = _option(0.99, "what batch normalisation keeps of its averages, in [0, 1)")
    augment: bool = _option(True, "shift and flip training images at random")
    crop: bool = _option(False, "shift by whole pixels, up to an eighth, and leave the edge blank")
    cutout: float = _option(0.0, "side of a square to blank at random, as a share, in [0, 1)")
    dtype: str = _option("float32", "precision: float32, or mixed with one of these", DTYPES)
    jit_compile: bool | str = _option("auto", "compile with XLA: auto, true or false")
    average: bool = _option(
        False, "average the weights at the ends of cycles, or of the last quarter of the epochs"
    )
    seed: int = _option(42, "seed of weights, batches, dropout and augmentation")

    def __post_init__(self) -> None:
        """Checks every field. Whether there is such a data set shows when it is loaded."""

        def check(check: Callable[..., Any], names: str, **limits: Any) -> None:
            for name in names.split():
                object.__setattr__(self, name, check(name, getattr(self, name), **limits))

        if not isinstance(self.dataset, str) or not self.dataset:
            raise ValueError(f"`dataset` must be a name. Received: dataset={self.dataset!r}")
        for choice in fields(self):
            if choice.metadata["choices"]:
                check(checks.choice, choice.name, choices=choice.metadata["choices"])
        check(checks.count, "step_size batch_size num_epochs")
        check(checks.count, "seed", minimum=0)
        check(checks.rate, "decay power")
        check(checks.above, "width")
        check(checks.decay, "gamma factor")
        check(checks.share, "momentum bn_momentum label_smoothing dropout cutout")
        check(checks.flag, "augment cycle_momentum nesterov crop average")
        if self.weight_decay is not None:
            check(checks.rate, "weight_decay")
        self._check_bounds()
        self._check_together()
        if self.jit_compile not in (True, False, "auto"):
            raise ValueError(
                "`jit_compile` must be True, False or 'auto'. "
                f"Received: jit_compile={self.jit_compile!r}"
            )

    def _check_bounds(self) -> None:
        if self.min_lr is None:
            object.__setattr__(self, "min_lr", AUTO if is_auto(self.max_lr) else MIN_LR)
        for name, check in (("min_lr", checks.rate), ("max_lr", checks.above)):
            value = getattr(self, name)
            if is_auto(value):
                continue
            if isinstance(value, str):
                raise TypeError(f"`{name}` must be a number or 'auto'. Received: {name}={value!r}")
            object.__setattr__(self, name, check(name, value))
        if is_auto(self.max_lr):
            return
        if is_auto(self.min_lr):
            raise ValueError(
                "`min_lr` can be 'auto' only together with `max_lr`. "
                f"Received: min_lr={self.min_lr!r}, max_lr={self.max_lr!r}"
            )
        lower, upper = self.bounds
        checks.at_least("max_lr", upper, "min_lr", lower)

    def _check_together(self) -> None:
        """Raises an error if an option can have no effect beside another."""
        has_momentum = bool(self.momentum) if self.optimizer == "sgd" else self.optimizer in BETA_1
        for name, acts, needed in (
            ("nesterov", self.optimizer == "sgd" and self.momentum, "optimizer momentum"),
            ("crop", self.augment, "augment"),
            ("cutout", self.augment, "augment"),
            ("cycle_momentum", self.clr_method in CYCLICAL, "clr_method"),
            ("cycle_momentum", has_momentum, "optimizer momentum"),
        ):
            if getattr(self, name) and not acts:
                raise self._has_no_effect(name, needed)
        if self.average and self._ends_to_average() < 2:
            of_cycles = self.clr_method in MODES
            raise ValueError(
                f"`average` needs two {'cycles' if of_cycles else 'epochs'} at least to average: "
                f"train for {4 * self.step_size if of_cycles else 5} epochs or more. Received: "
                f"average=True, clr_method={self.clr_method!r}, num_epochs={self.num_epochs}"
                + of_cycles
                * f", step_size={self.step_size}"
            )

    def _ends_to_average(self) -> int:
        if self.clr_method in MODES:
            return self.num_epochs // (2 * self.step_size)
        return self.num_epochs - first_epoch(START, self.num_epochs)

    def _check_given(self, given: Collection[str]) -> None:
        """Raises an error if an option that was asked for has no effect on this experiment."""
        for name, methods in READ_BY.items():
            if name in given and self.clr_method not in methods:
                known = f" It belongs to {' or '.join(methods)}." if len(methods) < 4 else ""
                raise self._has_no_effect(name, "clr_method", known)
        if "momentum" in given and self.optimizer != "sgd":
            raise self._has_no_effect("momentum", "optimizer", " It belongs to sgd.")
        if "momentum" in given and self.cycle_momentum:
            raise self._has_no_effect("momentum", "cycle_momentum")

    def _has_no_effect(self, name: str, beside: str, known: str = "") -> ValueError:
        others = ", ".join(f"{other}={getattr(self, other)!r}" for other in beside.split())
        return ValueError(
            f"`{name}` has no effect beside {others}.{known} Leave one or the other out. "
            f"Received: {name}={getattr(self, name)!r}, {others}"
        )

    @classmethod
    def from_profile(cls, profile: str = "auto", **parameters: Any) -> "Experiment":
        """Returns an experiment from a profile and what departs from it.

        Args:
            profile: `"full"`, `"quick"`, `"recipe"` or `"auto"`; see `resolve_profile`.
            **parameters: Fields of `Experiment`; `None` means "what the profile says". With
                `max_lr="auto"` the profile's `min_lr` is left out, so that it is found too.

        Raises:
            TypeError: An unknown parameter.
            ValueError: An unknown profile, a parameter out of its range, or one that has no effect
                on this experiment, such as `step_size` with the method `"constant"`.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        values = dict(PROFILES[resolve_profile(profile)])
        if is_auto(given.get("max_lr")):
            values.pop("min_lr", None)  # It belongs to the profile's own `max_lr`.
        experiment = cls(**{**values, **given})
        experiment._check_given(given)  # Only here are they told from those of the profile.
        return experiment

    @property
    def bounds(self) -> tuple[float, float]:
        """`min_lr` and `max_lr`.

        Raises:
            ValueError: They are still `"auto"`. Only `train` finds numbers for them.
        """
        if self.min_lr is None or isinstance(self.min_lr, str) or isinstance(self.max_lr, str):
            raise ValueError(
                "`max_lr` must be a number here: only `clr.train` finds one by a range test. "
                f"Received: max_lr={self.max_lr!r}"
            )
        return self.min_lr, self.max_lr

    def iterations_per_epoch(self, examples: int) -> int:
        """Returns the iterations in an epoch: full batches only."""
        return examples // self.batch_size

    def learning_rate(self, iterations_per_epoch: int) -> Rate:
        """Returns the rate as an optimizer takes it: a schedule, or a number.

        - `"triangular"`, `"triangular2"`, `"exp_range"`: from `min_lr` to `max_lr` in `step_size`
          epochs and back, again and again (`CyclicalLearningRate`).
        - `"one_cycle"`: once up to `max_lr` and down to nearly 0 over all epochs
          (`OneCycleLearningRate`).
        - `"constant"`: `max_lr`.
        - `"time"`: `max_lr / (1 + decay * iteration)` (Keras's `InverseTimeDecay`).
        - `"step"`: `max_lr * factor**n` after n times `step_size` epochs (`ExponentialDecay`).
        - `"linear"`: from `max_lr` to `min_lr` over all epochs (`PolynomialDecay`).
        - `"polynomial"`: the same along `(1 - share)**power` (`PolynomialDecay`).
        - `"cosine"`: the same along half a cosine wave (`CosineDecay`).
        - `"cosine_restarts"`: the same in `2 * step_size` epochs, then again from `max_lr`
          (`CosineDecayRestarts`; Loshchilov and Hutter, "SGDR", arXiv:1608.03983).

        Args:
            iterations_per_epoch: Updates in an epoch.

        Raises:
            ValueError: `max_lr` is still `"auto"`. Only `train` finds a number for it.
        """
        _ = self.bounds  # Both are numbers.
        return METHODS[self.clr_method](self, iterations_per_epoch)

    def rates(self, iterations_per_epoch: int) -> np.ndarray:
        """Returns the rate of every iteration, for epochs of so many: float64.

        Raises:
            ValueError: `max_lr` is still `"auto"`.
        """
        rate = self.learning_rate(iterations_per_epoch)
        iterations = np.arange(self.num_epochs * iterations_per_epoch)
        if isinstance(rate, PolicySchedule):
            return rate.policy.rate(iterations)
        if isinstance(rate, float):
            return np.full(len(iterations), rate)
        return keras.ops.convert_to_numpy(rate(iterations)).astype("float64")


def is_auto(bound: Any) -> bool:
    """Tells whether a bound is to be found by a range test."""
    return isinstance(bound, str) and bound == AUTO


def resolve_profile(profile: str = "auto") -> str:
    """Returns the profile in force: `"full"`, `"quick"` or `"recipe"`.

    `"auto"` means what the environment variable `CLR_PROFILE` says, else `"full"` where Keras sees
    a GPU or TPU, else `"quick"`.

    Raises:
        ValueError: An unknown profile, here or in `CLR_PROFILE`.
    """
    checks.choice("profile", profile, ("auto", *PROFILES))
    if profile != "auto":
        return profile
    asked = os.environ.get("CLR_PROFILE")
    if asked:
        return checks.choice("CLR_PROFILE", asked, tuple(PROFILES))
    return "quick" if accelerators() == [] else "full"

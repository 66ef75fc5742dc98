"""`cycle_momentum`: an optimizer's momentum follows a policy inside the compiled training step."""

import operator
import threading
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from clr import optimizers
from clr.policies import CyclicPolicy, OneCyclePolicy

# What optimizers call it. Muon has two: the second is that of the variables which are no matrices.
NAMES = ("momentum", "beta_1", "adam_beta_1")


def cycle_momentum(
    optimizer: keras.optimizers.Optimizer, policy: CyclicPolicy | OneCyclePolicy, origin: int = 0
) -> Callable[[], None]:
    """Lets an optimizer's momentum be `policy.momentum(iteration)` from now on.

    `optimizer.momentum = 0.5` in the middle of `fit` changes nothing: the compiled step holds the
    number that it was traced with. Here the step itself computes the momentum, from the optimizer's
    count of updates: exact for every batch, on every backend and on every device of a
    `MirroredStrategy`. What is cycled is `momentum` (SGD, RMSprop), `beta_1` (Adam and its kin), or
    `momentum` and `adam_beta_1` (Muon). Outside the step that attribute is the number that it was,
    so that the optimizer is saved as ever. A loaded optimizer does not cycle until it is told.

    Adam, AdamW, Adamax, Lamb and Muon correct their averages by `1 - beta_1**t` with the `beta_1`
    of the update t, as PyTorch's Adam does under `OneCycleLR`. With a `beta_1` that changes this is
    not quite the average's weight in the first few dozen updates, and equal to it afterwards. Nadam
    multiplies the `beta_1` of all updates and is exact. `ScheduleFreeAdamW` is refused, because it
    finds its average of the weights again by means of `beta_1`, which must not change for that.

    With a schedule, call this before `fit`; `CyclicLR` and `OneCycleLR` do it themselves.

    ```python
    schedule = OneCycleLearningRate(max_lr=0.1, total_steps=1000)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.95)
    cycle_momentum(optimizer, schedule.policy)
    ```

    Args:
        optimizer: The optimizer, or one wrapped by LossScaleOptimizer, or a MultiOptimizer, whose
            optimizers all follow. If a training function has been compiled with it, that must be
            made anew: `model.make_train_function(force=True)`.
        policy: The policy, in place of any that the momentum followed before.
        origin: The optimizer's count of updates at which the policy's iteration 0 lies.

    Returns:
        A function that makes the momentum constant again, if it still follows this policy.

    Raises:
        ValueError: The optimizer has no momentum, one of 0, or one that must be constant; or the
            policy's `scale_fn` does not compile.

    Source: Smith, "A disciplined approach to neural network hyper-parameters" (arXiv:1803.09820),
    section 4.
    """
    parts = optimizers.parts(optimizer)
    if not parts:
        raise ValueError(
            "`optimizer` must know its variables, because a MultiOptimizer on a function finds its "
            "optimizers by them: call optimizer.build(model.trainable_variables) first. "
            f"Received: optimizer={optimizer!r}, without any"
        )
    names = [_names(part) for part in parts]
    _check_compiles(policy)
    # One that was trained before it came into a MultiOptimizer has its own count of updates.
    ahead = [optimizers.updates(part) - optimizers.updates(optimizer) for part in parts]
    releases = [
        _cycle_one(part, _MomentumInStep(part, of_part, policy, origin + more))
        for part, of_part, more in zip(parts, names, ahead, strict=True)
    ]

    def release() -> None:
        for release_one in releases:
            release_one()

    return release


def _cycle_one(optimizer: Any, momentum: "_MomentumInStep") -> Callable[[], None]:
    """Has one optimizer make its updates with a momentum, until the function returned is called."""
    apply = type(optimizer).apply  # The class's own: what stood on the object is replaced.

    def apply_with_momentum(grads: Any, trainable_variables: Any = None) -> None:
        with momentum:
            apply(optimizer, grads, trainable_variables)

    def release() -> None:
        if vars(optimizer).get("apply") is apply_with_momentum:
            del optimizer.apply

    optimizer.apply = apply_with_momentum
    return release


class _MomentumInStep:
    """Is the policy's momentum, as the optimizer's attributes, while an update is being made.

    On several devices each replica calls `apply` in a thread of its own, and all wait for one
    another inside it: the first to come puts the momentum there, the last to go takes it away.
    """

    def __init__(self, optimizer: Any, names: list[str], policy: Any, origin: int):
        self._optimizer, self._policy, self._origin = optimizer, policy, origin
        self._names = names
        self._constants: dict[str, Any] = {}
        self._inside, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._put()
            self._inside += 1

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._constants)

    def _put(self) -> None:
        iteration = ops.convert_to_tensor(self._optimizer.iterations) - self._origin
        value = self._policy.momentum(iteration, xp=ops, dtype="float32")
        self._constants = {name: getattr(self._optimizer, name) for name in self._names}
        if keras.backend.backend() == "torch":  # It runs step by step and wants a number.
            self._set(dict.fromkeys(self._names, float(value)))
        else:
            self._set({name: _Momentum(value, old) for name, old in self._constants.items()})

    def _set(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self._optimizer, name, value)


class _Momentum:
    """A tensor where an optimizer's code expects a number.

    In sums and products it is the tensor. Compared, it is the constant in whose place it stands:
    optimizers ask whether there is a momentum, because they have variables for one or have none.
    """

    def __init__(self, value: Any, constant: Any):
        self.value, self.constant = value, constant

    def __bool__(self) -> bool:
        return bool(self.constant)

    def __neg__(self) -> Any:
        return ops.negative(self.value)

    def __float__(self) -> float:
        raise TypeError(
            "This optimizer turns its momentum into a plain number as it makes an update, so that "
            "the momentum can't cycle: pass cycle_momentum=False"
        )

    def __repr__(self) -> str:
        return f"{self.constant!r} (cycled)"

    def __format__(self, form: str) -> str:
        return format(self.constant, form)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return ops.cast(self.value, dtype.name) if dtype is not None else self.value

    def __jax_array__(self) -> Any:
        return self.value


def _computed(name: str, operation: Callable[[Any, Any], Any]) -> None:
    setattr(_Momentum, f"__{name}__", lambda self, other: operation(self.value, other))
    setattr(_Momentum, f"__r{name}__", lambda self, other: operation(other, self.value))


def _compared(name: str) -> None:
    compare = getattr(operator, name)
    setattr(_Momentum, f"__{name}__", lambda self, other: compare(self.constant, other))


for _name, _operation in {
    "add": ops.add,
    "sub": ops.subtract,
    "mul": ops.multiply,
    "truediv": ops.divide,
    "pow": ops.power,
}.items():
    _computed(_name, _operation)
for _name in "lt le eq ne gt ge".split():
    _compared(_name)


def _names(optimizer: Any) -> list[str]:
    """Returns which attributes are an optimizer's momentum."""
    kind = type(optimizer).__name__
    names = [name for name in NAMES if hasattr(optimizer, name)]
    zero = next((name for name in names if not getattr(optimizer, name)), None)
    if not names or zero:
        remedy = f", or compile with {kind}({zero}=0.9)" if zero else ""
        raise ValueError(
            "`optimizer` must have a momentum to cycle, such as SGD(momentum=0.9) or Adam(). Pass "
            f"cycle_momentum=False, as this optimizer has no momentum to cycle{remedy}. "
            f"Received: optimizer={optimizer!r}, "
            + (f"with {zero}={getattr(optimizer, zero)!r}" if zero else "without one")
        )
    schedule_free = getattr(keras.optimizers, "ScheduleFreeAdamW", None)  # Not in older Keras.
    if schedule_free is not None and isinstance(optimizer, schedule_free):
        raise ValueError(
            f"`optimizer` must have a momentum that may change, and {kind} finds its average of "
            "the weights again by means of a constant beta_1. Pass cycle_momentum=False. "
            f"Received: optimizer={optimizer!r}"
        )
    return names


def _check_compiles(policy: Any) -> None:
    """Raises an error if the policy has a function that needs a number and not a tensor."""
    scale_fn = getattr(policy, "scale_fn", None)
    if scale_fn is None or keras.backend.backend() == "torch":
        return
    try:
        scale_fn(keras.KerasTensor((), "float32"))
    except Exception as error:
        raise ValueError(
            "`scale_fn` must work on a tensor if the momentum is to cycle, because the compiled "
            "step computes it: write it with keras.ops and no branches, or pass "
            f"cycle_momentum=False. Received: scale_fn={scale_fn!r}, which failed with "
            f"{type(error).__name__}: {error}"
        ) from error

"""`cycle_momentum`: an optimizer's momentum follows a policy inside the compiled training step."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from clr.optimizers import inner
from clr.policies import CyclicPolicy, OneCyclePolicy


def cycle_momentum(
    optimizer: keras.optimizers.Optimizer, policy: CyclicPolicy | OneCyclePolicy, origin: int = 0
) -> Callable[[], None]:
    """Lets an optimizer's momentum be `policy.momentum(iteration)` from now on.

    `optimizer.momentum = 0.5` in the middle of `fit` changes nothing: the compiled step holds the
    number that it was traced with. Here the step itself computes the momentum, from the optimizer's
    count of updates: exact for every batch, on every backend. What is cycled is `momentum` (SGD,
    RMSprop) or `beta_1` (Adam and its kin); outside the step that attribute is the number that it
    was, so that the optimizer is saved as ever. A loaded optimizer does not cycle until it is told.

    With a schedule, call this before `fit`; `CyclicLR` and `OneCycleLR` do it themselves.

    ```python
    schedule = OneCycleLearningRate(max_lr=0.1, total_steps=1000)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.95)
    cycle_momentum(optimizer, schedule.policy)
    ```

    Args:
        optimizer: The optimizer, or one wrapped by LossScaleOptimizer. If a training function has
            been compiled with it, that must be made anew: `model.make_train_function(force=True)`.
        policy: The policy, in place of any that the momentum followed before.
        origin: The optimizer's count of updates at which the policy's iteration 0 lies.

    Returns:
        A function that makes the momentum constant again.

    Raises:
        ValueError: The optimizer has no momentum, or one of 0.

    Source: Smith, "A disciplined approach to neural network hyper-parameters" (arXiv:1803.09820),
    section 4.
    """
    optimizer = inner(optimizer)
    name = next((n for n in ("momentum", "beta_1") if getattr(optimizer, n, 0)), None)
    if name is None:
        raise ValueError(
            "`optimizer` must have a momentum to cycle, such as SGD(momentum=0.9) or Adam(). "
            f"Received: optimizer={optimizer!r}, without one or with momentum 0"
        )
    apply = type(optimizer).apply  # The class's own: what stood on the object is replaced.

    def apply_with_momentum(grads: Any, trainable_variables: Any = None) -> None:
        constant = getattr(optimizer, name)
        iteration = ops.convert_to_tensor(optimizer.iterations) - origin
        value = policy.momentum(iteration, xp=ops, dtype="float32")
        # PyTorch runs step by step and wants a number.
        in_step = float(value) if keras.backend.backend() == "torch" else _Momentum(value)
        setattr(optimizer, name, in_step)
        try:
            apply(optimizer, grads, trainable_variables)
        finally:
            setattr(optimizer, name, constant)

    optimizer.apply = apply_with_momentum
    return lambda: optimizer.__dict__.pop("apply", None)


class _Momentum:
    """A tensor that optimizers may compare to 0 while they are traced: it is above."""

    def __init__(self, value: Any):
        self.value = value

    def __gt__(self, other: Any) -> bool:
        return True

    def __ne__(self, other: Any) -> bool:
        return True

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __rmul__(self, other: Any) -> Any:
        return other * self.value

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return ops.cast(self.value, dtype.name) if dtype is not None else self.value

    def __jax_array__(self) -> Any:
        return self.value

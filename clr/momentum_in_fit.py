"""`MomentumInFit`: a momentum that cycles in one training run, and in nothing after it."""

from typing import Any

import keras

from clr import optimizers
from clr.momentum import cycle_momentum


class MomentumInFit:
    """Lets the momentum cycle in the steps that are announced, and in no others.

    Keras tells no callback that an exception, or Ctrl-C, has ended `fit`, and keeps the compiled
    step. This one stands before that step. If a step comes unannounced, another training run has
    begun: then the momentum is made constant first.

    Args:
        model: A compiled model.
        policy: What the momentum follows.
        origin: The optimizer's count of updates at which the policy's iteration 0 lies.

    Raises:
        ValueError: The optimizer has no momentum, or one of 0.
    """

    def __init__(self, model: keras.Model, policy: Any, origin: int):
        self._model, self._policy, self._origin = model, policy, origin
        self._release = cycle_momentum(model.optimizer, policy, origin)
        self._parts = optimizers.parts(model.optimizer)
        self._applies = [part.apply for part in self._parts]
        model.make_train_function(force=True)  # The step is to be traced with it.
        self._step: Any = model.train_function
        self._announced = False
        model.train_function = self

    def __call__(self, *args: Any) -> Any:
        """Runs a step: what Keras calls as `model.train_function`."""
        if not self._announced:
            self.release()
            return self._model.train_function(*args)
        self._announced = False
        # From the first step on, the optimizer cycles in steps alone: by hand it does what it did.
        for part, apply in zip(self._parts, self._applies, strict=True):
            part.__dict__["apply"] = apply
        try:
            return self._step(*args)
        finally:
            for part in self._parts:
                part.__dict__.pop("apply", None)

    def begin_step(self, updates: int) -> float:
        """Announces a step. Returns its momentum, before which so many updates were made."""
        self._announced = True
        return float(self._policy.momentum(updates - self._origin))

    def follows(self, policy: Any, origin: int) -> bool:
        """Tells whether this is the momentum of such a policy and origin."""
        return self._policy is policy and self._origin == origin

    def release(self) -> None:
        """Makes the momentum constant again."""
        self._release()
        self._step = None  # As long as it lives, JAX takes its trace for that of the next.
        if self._model.train_function is self:
            self._model.make_train_function(force=True)

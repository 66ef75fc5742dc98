"""`CyclicalLearningRate` and `OneCycleLearningRate`: the policies inside the compiled step."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from clr.policies import CyclicPolicy, OneCyclePolicy


class PolicySchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Returns the rate that a policy says at a step: what the schedules here have in common.

    Args:
        policy: The policy.

    Attributes:
        policy: The policy in force.
    """

    def __init__(self, policy: Any):
        super().__init__()
        self.policy = policy

    def __call__(self, step: Any) -> Any:
        """Returns the rate at a step.

        Args:
            step: Scalar integer (a number, tensor or variable): updates made so far.

        Returns:
            Scalar float32 tensor.
        """
        step = ops.cast(ops.convert_to_tensor(step), "int")
        return ops.cast(self.policy.rate(step, xp=ops, dtype="float32"), "float32")


@keras.saving.register_keras_serializable(package="clr")
class CyclicalLearningRate(PolicySchedule):
    """The policies of `CyclicLR` as a schedule, for any optimizer's `learning_rate`.

    ```python
    optimizer = keras.optimizers.SGD(CyclicalLearningRate(1e-3, 6e-3, step_size=2000))
    ```

    The rate is computed in the compiled step, in single precision, from the optimizer's count: no
    Python per batch, and exact for every batch under `steps_per_execution`. It is saved with the
    model and loaded with it; a new process must `import clr` first. Under gradient accumulation
    Keras calls a schedule with the number of batches, not of updates: count `step_size` in batches.
    With data of unknown length, Keras on TensorFlow may count one update too many an epoch.

    Args:
        base_lr: Lower bound. Defaults to `0.001`.
        max_lr: Upper bound. Defaults to `0.006`.
        step_size: Iterations in half a cycle: **batches, not epochs**. Defaults to `2000`.
        mode: `"triangular"` (default), `"triangular2"` or `"exp_range"`.
        gamma: Decay per iteration in mode `"exp_range"`, in (0, 1]. Defaults to `1.0`.
        scale_fn: A function of one scalar tensor, in place of `mode`. It must be written with
            `keras.ops` and registered, so that it compiles and can be saved.
        scale_mode: `"cycle"` (default): `scale_fn` is called with the cycle's number, from 1;
            `"iterations"`: with the iteration's, from 0.
        step_size_down: Iterations of the falling half. Defaults to `step_size`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument, or a `scale_fn` that fails on a tensor or is not registered.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186),
    section 3.
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
        policy = CyclicPolicy(
            base_lr=base_lr,
            max_lr=max_lr,
            step_size=step_size,
            mode=mode,
            gamma=gamma,
            scale_fn=scale_fn,
            scale_mode=scale_mode,
            step_size_down=step_size_down,
        )
        super().__init__(policy)
        if scale_fn is not None:
            _check_compiles_and_saves(scale_fn)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this schedule again, ready for JSON."""
        policy = self.policy
        return {
            "base_lr": policy.base_lr,
            "max_lr": policy.max_lr,
            "step_size": policy.step_size,
            "mode": policy.mode,
            "gamma": policy.gamma,
            "scale_fn": keras.saving.serialize_keras_object(policy.scale_fn),
            "scale_mode": policy.scale_mode,
            "step_size_down": policy.step_size_down,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CyclicalLearningRate":
        """Returns the schedule that `get_config` described."""
        scale_fn = keras.saving.deserialize_keras_object(config["scale_fn"])
        return cls(**{**config, "scale_fn": scale_fn})


@keras.saving.register_keras_serializable(package="clr")
class OneCycleLearningRate(PolicySchedule):
    """The one-cycle policy of `OneCycleLR` as a schedule, for any optimizer's `learning_rate`.

    As with `CyclicalLearningRate` the rate is computed in the compiled step and saved with the
    model. The momentum is the optimizer's own and constant, unless `cycle_momentum` is called.

    Args:
        max_lr: The rate at the turn. Above 0.
        total_steps: Iterations of the training: epochs times iterations per epoch.
        pct_start: Share of them in which the rate rises, in (0, 1). Defaults to `0.3`.
        anneal_strategy: `"cos"` (default) or `"linear"`.
        div_factor: What `max_lr` is divided by for the first rate. Defaults to `25.0`.
        final_div_factor: What the first rate is divided by for the last. Defaults to `1e4`.
        three_phase: Whether the fall pauses at the first rate. Defaults to `False`.
        base_momentum: For `cycle_momentum`: the momentum at the turn. Defaults to `0.85`.
        max_momentum: For `cycle_momentum`: at the start and the end. Defaults to `0.95`.

    Attributes:
        policy: The `clr.policies.OneCyclePolicy` in force.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A bad argument.

    Source: Smith and Topin, "Super-Convergence" (arXiv:1708.07120), section 2.
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
        super().__init__(policy)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this schedule again, ready for JSON."""
        return asdict(self.policy)


_EXAMPLE = """For example:

@keras.saving.register_keras_serializable(package="my_project")
def my_scale(x):
    return keras.ops.exp(-0.1 * x)
"""


def _check_compiles_and_saves(scale_fn: Callable[[Any], Any]) -> None:
    try:
        scale_fn(keras.KerasTensor((), "float32"))
    except Exception as error:
        raise ValueError(
            "`scale_fn` must work on a tensor: write it with keras.ops and no branches. "
            f"Received: scale_fn={scale_fn!r}, which failed with {type(error).__name__}: {error}. "
            + _EXAMPLE
        ) from error
    name = keras.saving.get_registered_name(scale_fn)
    if keras.saving.get_registered_object(name) is not scale_fn:
        raise ValueError(
            "`scale_fn` must be registered with Keras, or the model could not be saved. "
            f"Received: scale_fn={scale_fn!r}. " + _EXAMPLE
        )

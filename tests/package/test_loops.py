"""The page on training loops: each block runs as it stands and trains with the policy's rates."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from markers import BACKEND, TENSORFLOW
from numpy.testing import assert_allclose

from clr import CyclicLR, CyclicPolicy, OneCycleLR, OneCyclePolicy

PAGE = Path(__file__).resolve().parents[2] / "book" / "loops.md"
SETS_BACKEND = re.compile(r'^import os\n\nos\.environ\["KERAS_BACKEND"\] = "(\w+)"\n')
BLOCKS = [
    (PAGE.read_text("utf-8")[: found.start()].count("\n") + 2, found[1])
    for found in re.finditer(
        r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
]
SCHEDULERS = "lr_scheduler"

if TENSORFLOW:
    from tensorflow import init_scope
else:
    from contextlib import nullcontext as init_scope

needs_torch = pytest.mark.skipif(BACKEND != "torch", reason="speaks PyTorch")


def param(line, code):
    backend = SETS_BACKEND.match(code)
    elsewhere = backend is not None and backend[1] != BACKEND
    skip = pytest.mark.skipif(elsewhere, reason=f"speaks {backend and backend[1]}")
    return pytest.param(line, code, marks=skip, id=f"line {line}")


@keras.saving.register_keras_serializable(package="test_loops")
class SGDThatTells(keras.optimizers.SGD):
    """Notes, inside the compiled step, the rate and the momentum that each update was made with."""

    def build(self, variables):
        super().build(variables)
        self.rates = self.add_variable((1000,), name="rates")
        self.momenta = self.add_variable((1000,), name="momenta")

    def apply(self, grads, trainable_variables=None):
        if not self.built:  # As Keras does, which builds it within the traced step.
            with init_scope():
                self.build(trainable_variables)
        here = keras.ops.one_hot(keras.ops.cast(self._iterations, "int32"), 1000)
        rate, momentum = keras.ops.cast(self.learning_rate, "float32"), 1.0 * self.momentum
        self.rates.assign(self.rates + here * rate)
        self.momenta.assign(self.momenta + here * momentum)
        super().apply(grads, trainable_variables)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Returns what executes a block: its names, and each torch optimizer's rates and momenta."""
    monkeypatch.chdir(tmp_path)  # Two blocks save a model.
    monkeypatch.setenv("KERAS_BACKEND", BACKEND)
    monkeypatch.setattr(keras.optimizers, "SGD", SGDThatTells)
    seen: dict = {}
    if BACKEND == "torch":
        import torch

        step = torch.optim.SGD.step

        def step_that_tells(optimizer, *arguments):
            group = optimizer.param_groups[0]
            seen.setdefault(optimizer, []).append((group["lr"], group["momentum"]))
            return step(optimizer, *arguments)

        monkeypatch.setattr(torch.optim.SGD, "step", step_that_tells)

    def run_block(line, code):
        keras.utils.set_random_seed(0)
        names = {"__name__": "__main__"}
        exec(compile("\n" * (line - 1) + code, PAGE.name, "exec"), names)
        return names, seen

    return run_block


def assert_follows(seen, policy, tolerance):
    rates, momenta = np.array(seen).T
    iterations = np.arange(len(rates))
    assert_allclose(rates, policy.rate(iterations), rtol=0, atol=tolerance * policy.max_lr)
    assert_allclose(momenta, policy.momentum(iterations), rtol=0, atol=tolerance)


def test_each_block_names_its_backend_before_keras_is_imported():
    assert len(BLOCKS) == 11
    for line, code in BLOCKS:
        backends = set(re.findall(r"^import (tensorflow|jax|torch)\b", code, re.MULTILINE))
        named = SETS_BACKEND.match(code)
        assert backends == ({named[1]} if named else set()), line


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "line, code", [param(*block) for block in BLOCKS if SCHEDULERS not in block[1]]
)
def test_a_loop_trains_with_the_policys_rates_and_the_loss_falls(line, code, run):
    names, of_torch = run(line, code)
    optimizer, losses = names["optimizer"], names["losses"]
    updates = names.get("epochs", 2) * names["steps"]
    if optimizer in of_torch:
        seen, tolerance = of_torch[optimizer], 1e-12
    else:
        told = [keras.ops.convert_to_numpy(v) for v in (optimizer.rates, optimizer.momenta)]
        assert not np.any(np.array(told)[:, updates:])
        seen, tolerance = np.transpose(told)[:updates], 1e-6
        assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == updates
    source = names.get("policy") or names.get("schedule", names.get("cycle")).policy
    assert len(seen) == updates
    assert_follows(seen, source, tolerance)
    if "cycle" in names:
        history = names["cycle"].history
        told = np.transpose([history["lr"], history["momentum"]])
        assert_allclose(told, seen[-len(told) :], rtol=0, atol=1e-6)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    "line, code", [param(*block) for block in BLOCKS if SCHEDULERS in block[1]]
)
def test_pytorchs_schedulers_and_the_policies_agree_in_both_directions(line, code, run):
    names, seen = run(line, code)
    assert all(len(values) == 150 for values in seen.values())
    if "policies" in names:
        for optimizer, policy in zip(("first", "second"), names["policies"], strict=True):
            assert_follows(seen[names[optimizer]], policy, 1e-12)
        assert names["largest"] < 1e-12
    else:
        by_lambda, cyclic, one_cycle = (seen[optimizer] for optimizer in names["optimizers"])
        assert [rate for rate, _ in by_lambda] == list(names["policy"].rate(np.arange(150)))
        assert {momentum for _, momentum in by_lambda} == {0.9}
        assert_follows(cyclic, names["policy"], 1e-12)
        assert_follows(one_cycle, names["one_cycle"], 1e-12)


@needs_torch
@pytest.mark.parametrize(
    "kind, theirs, ours",
    [
        ("CyclicLR", {"step_size_up": 7}, {"step_size": 7}),
        (
            "CyclicLR",
            {"step_size_up": 7, "step_size_down": 4, "mode": "exp_range", "gamma": 0.95},
            {"step_size": 7, "step_size_down": 4, "mode": "exp_range", "gamma": 0.95},
        ),
        *(
            (
                "CyclicLR",
                {"step_size_up": 7, "scale_fn": lambda x: 1 / (1 + x), "scale_mode": mode},
                {"step_size": 7, "scale_fn": lambda x: 1 / (1 + x), "scale_mode": mode},
            )
            for mode in ("cycle", "iterations")
        ),
        (
            "CyclicLR",
            {"step_size_up": 7, "base_momentum": 0.5, "max_momentum": 0.99},
            {"step_size": 7, "base_momentum": 0.5, "max_momentum": 0.99},
        ),
        ("OneCycleLR", {"epochs": 4, "steps_per_epoch": 10}, {"total_steps": 40}),
        *(
            ("OneCycleLR", settings, settings)
            for settings in (
                {"total_steps": 40, "pct_start": 0.4, "three_phase": True},
                {"total_steps": 40, "anneal_strategy": "linear", "div_factor": 5.0},
                {"total_steps": 40, "final_div_factor": 10.0, "base_momentum": 0.5},
            )
        ),
    ],
)
def test_the_tables_of_arguments_lead_to_the_same_rates(kind, theirs, ours):
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    bounds = {"base_lr": 1e-3, "max_lr": 0.1} if kind == "CyclicLR" else {"max_lr": 0.1}
    scheduler = getattr(torch.optim.lr_scheduler, kind)(optimizer, **bounds, **theirs)
    policy = {"CyclicLR": CyclicPolicy, "OneCycleLR": OneCyclePolicy}[kind](**bounds, **ours)
    seen = []
    for iteration in range(40):
        assert scheduler.last_epoch == iteration
        seen.append([optimizer.param_groups[0][name] for name in ("lr", "momentum")])
        optimizer.step()
        if iteration < 39:
            scheduler.step()
    assert_follows(seen, policy, 1e-12)
    if kind == "OneCycleLR":
        assert policy.rate(1000) == policy.rate(39)
        with pytest.raises(ValueError, match="Tried to step"):
            scheduler.step()
            scheduler.step()


@needs_torch
@pytest.mark.parametrize("ours", [CyclicLR, CyclicPolicy, OneCycleLR, OneCyclePolicy])
def test_arguments_of_the_same_name_have_the_same_default(ours):
    import torch

    kind = ours.__name__.replace("Policy", "LR")
    theirs = inspect.signature(getattr(torch.optim.lr_scheduler, kind)).parameters
    for name, argument in inspect.signature(ours).parameters.items():
        if name in theirs and theirs[name].default is not inspect.Parameter.empty:
            differs = ours in (CyclicLR, OneCycleLR) and name == "cycle_momentum"
            required = argument.default is inspect.Parameter.empty
            assert required or (argument.default == theirs[name].default) != differs, name

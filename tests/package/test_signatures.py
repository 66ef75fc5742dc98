"""One set of arguments: policy, callback and schedule have the same names, order and defaults."""

import ast
import inspect
import re

import pytest

import clr

PAIRS = [
    (clr.CyclicPolicy, clr.CyclicLR),
    (clr.CyclicPolicy, clr.CyclicalLearningRate),
    (clr.OneCyclePolicy, clr.OneCycleLR),
    (clr.OneCyclePolicy, clr.OneCycleLearningRate),
]
# A schedule can't cycle the momentum of the optimizer that it is part of.
OWN = {
    clr.CyclicLR: {"cycle_momentum": False, "cycles": None},
    clr.CyclicalLearningRate: {},
    clr.OneCycleLR: {"cycle_momentum": False},
    clr.OneCycleLearningRate: {},
}
# A callback knows the length of the `fit` it is in, and takes it where no other is given.
FROM_FIT = {clr.CyclicLR: {"step_size": None}, clr.OneCycleLR: {"total_steps": None}}
LEFT_OUT = {clr.CyclicalLearningRate: {"base_momentum", "max_momentum"}}


def arguments(of) -> dict:
    return {name: p.default for name, p in inspect.signature(of).parameters.items()}


@pytest.mark.parametrize("policy, user", PAIRS)
def test_names_order_and_defaults_are_the_policys(policy, user):
    expected = [
        (name, FROM_FIT.get(user, {}).get(name, default))
        for name, default in arguments(policy).items()
        if name not in LEFT_OUT.get(user, ())
    ]
    found = [(name, d) for name, d in arguments(user).items() if name not in OWN[user]]
    assert found == expected
    assert {name: arguments(user)[name] for name in OWN[user]} == OWN[user]


def test_a_new_argument_comes_last_so_that_older_scripts_mean_what_they_did():
    assert list(arguments(clr.CyclicLR))[-1] == "cycles"
    assert clr.CyclicLR().policy == clr.CyclicPolicy()


@pytest.mark.parametrize("policy, user", PAIRS)
def test_every_argument_arrives_at_the_policy_under_its_own_name(policy, user):
    others = {
        "base_lr": 0.01, "max_lr": 0.5, "step_size": 7, "mode": "exp_range", "gamma": 0.5,
        "scale_mode": "iterations", "step_size_down": 9, "total_steps": 70, "pct_start": 0.4,
        "anneal_strategy": "linear", "div_factor": 5.0, "final_div_factor": 6.0,
        "three_phase": True, "base_momentum": 0.1, "max_momentum": 0.2,
    }  # fmt: skip
    given = {name: value for name, value in others.items() if name in arguments(user)}
    cycling = {"cycle_momentum": True} if "cycle_momentum" in arguments(user) else {}
    made = user(**given, **cycling).policy
    assert {name: getattr(made, name) for name in given} == given


@pytest.mark.parametrize("documented", dict.fromkeys(cls for pair in PAIRS for cls in pair))
def test_the_defaults_that_a_docstring_tells_are_those_of_the_signature(documented):
    text = inspect.getdoc(documented)
    told = re.findall(r"^    (\w+): (?:(?!^    \w+:).)*?Defaults to\s+`([^`]+)`", text, re.M | re.S)
    assert told or documented is clr.CyclicPolicy
    for name, default in told:
        if name in arguments(documented) and not default.isidentifier():
            assert ast.literal_eval(default) == arguments(documented)[name], name

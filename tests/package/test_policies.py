import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import random_settings, reference_rate
from torch_rates import STORED, torch_rates

from clr.policies import MODES, CyclicPolicy


@pytest.mark.parametrize("mode", MODES)
def test_rates_equal_the_reference_formula(mode):
    for setting, iterations in random_settings(mode, 1000):
        setting.pop("step_size_down")
        difference = CyclicPolicy(**setting).rate(iterations) - reference_rate(
            iterations, **setting
        )
        assert np.abs(difference).max() <= 1e-12 * setting["max_lr"], setting


@pytest.mark.parametrize("mode", MODES)
def test_rates_equal_torchs_stored_ones_with_unequal_halves(mode):
    with np.load(STORED, allow_pickle=False) as stored:
        judge = stored[mode]
    for (setting, iterations), row in zip(
        random_settings(mode, 1000, uneven=True), judge, strict=True
    ):
        difference = CyclicPolicy(**setting).rate(iterations) - row
        assert np.abs(difference).max() <= 1e-12 * setting["max_lr"], setting


@pytest.mark.parametrize("mode", MODES)
def test_the_stored_rates_are_torchs(mode):
    pytest.importorskip("torch", reason="pip install torch to hold the stored rates against it")
    with warnings.catch_warnings(), np.load(STORED, allow_pickle=False) as stored:
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(torch_rates(mode), stored[mode], rtol=1e-15)


def exact_rate(i, policy):
    """The triangular policies in rational arithmetic."""
    up, length = policy.step_size, policy.cycle_length
    place, cycle = i % length, i // length
    fraction = Fraction(place, up) if place <= up else Fraction(length - place, length - up)
    # A power beyond 2,000 is as good as none here, and in full would fill the memory.
    scale = Fraction(1, 2 ** min(cycle, 2000)) if policy.mode == "triangular2" else 1
    base, top = Fraction(policy.base_lr), Fraction(policy.max_lr)
    return base + (top - base) * fraction * scale


@pytest.mark.parametrize("mode", ["triangular", "triangular2"])
@pytest.mark.parametrize("iteration", [10**9, 2**53 + 1, 10**15 + 7])
def test_rates_are_exact_where_floats_have_run_out(mode, iteration):
    for setting, _ in random_settings(mode, 100, uneven=True):
        policy = CyclicPolicy(**setting)
        for i in (iteration, np.int64(iteration), np.array([iteration])):
            difference = abs(
                Fraction(float(np.squeeze(policy.rate(i)))) - exact_rate(iteration, policy)
            )
            assert difference <= 1e-15 * policy.max_lr, setting


def test_triangular2_goes_on_where_the_reference_overflows():
    policy = CyclicPolicy(0.1, 0.9, step_size=1, mode="triangular2")
    assert policy.rate(2 * 5000 + 1) == 0.1
    assert policy.rate(np.array([1, 2 * 1100 + 1])).tolist() == [0.9, 0.1]


RATES = st.floats(0, 1e3)
SIZES = st.integers(1, 10**6)


@settings(max_examples=200, deadline=None)
@given(
    bounds=st.tuples(RATES, RATES).map(sorted),
    up=SIZES,
    down=SIZES,
    mode=st.sampled_from(MODES),
    gamma=st.floats(0.5, 1),
    cycle=st.integers(0, 2000),
    place=st.floats(0, 1, exclude_max=True),
)
def test_a_cycle_starts_at_base_turns_once_and_stays_within_bounds(
    bounds, up, down, mode, gamma, cycle, place
):
    base, top = bounds
    policy = CyclicPolicy(base, top, up, mode, gamma, step_size_down=down)
    start = cycle * policy.cycle_length
    assert policy.rate(start) == base
    if mode == "triangular" or (mode == "triangular2" and cycle == 0):
        assert policy.rate(start + up) == pytest.approx(top, rel=1e-15)
    p = int(place * policy.cycle_length)
    rate, following = policy.rate(start + p), policy.rate(start + p + 1)
    ulp = math.ulp(top)
    assert base <= rate <= top + ulp
    if mode != "exp_range":
        assert following >= rate - ulp if p < up else following <= rate + ulp


def test_a_custom_scale_gets_the_cycle_from_1_or_the_iteration_from_0():
    seen = []
    policy = CyclicPolicy(0, 1, 2, scale_fn=lambda x: seen.append(x) or 1.0, scale_mode="cycle")
    policy.rate(np.arange(8))
    assert seen == [1, 1, 1, 1, 2, 2, 2, 2]
    seen.clear()
    CyclicPolicy(0, 1, 2, scale_fn=policy.scale_fn, scale_mode="iterations").rate(np.arange(3))
    assert seen == [0, 1, 2]


def test_a_custom_scale_may_branch_and_use_math():
    policy = CyclicPolicy(0, 1, 1, scale_fn=lambda c: 1 if c < 2 else math.exp(-c))
    assert policy.rate(np.array([1, 3])) == pytest.approx([1, math.exp(-2)])


def test_integral_floats_are_accepted_as_the_reference_has_them():
    assert CyclicPolicy(step_size=2000.0).step_size == 2000


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"mode": "triangle"}, ValueError),
        ({"mode": None}, ValueError),
        ({"scale_mode": "epoch"}, ValueError),
        ({"max_lr": 1e-9}, ValueError),
        ({"max_lr": float("nan")}, ValueError),
        ({"max_lr": float("inf")}, ValueError),
        ({"base_lr": float("nan")}, ValueError),
        ({"base_lr": -0.1}, ValueError),
        ({"base_lr": "0.1"}, TypeError),
        ({"base_lr": True}, TypeError),
        ({"step_size": 0}, ValueError),
        ({"step_size": 0.5}, ValueError),
        ({"step_size": 2.5}, ValueError),
        ({"step_size": float("inf")}, ValueError),
        ({"step_size": float("nan")}, ValueError),
        ({"step_size": "2000"}, TypeError),
        ({"step_size_down": 0}, ValueError),
        ({"gamma": 0}, ValueError),
        ({"gamma": 1.0001}, ValueError),
        ({"gamma": float("nan")}, ValueError),
        ({"scale_fn": 0.5}, TypeError),
    ],
)
def test_a_bad_argument_is_refused_by_name_and_value(argument, error):
    (name, value), *_ = argument.items()
    with pytest.raises(error, match=f"`{name}`.*{name}={value!r}"):
        CyclicPolicy(**argument)


def test_a_scale_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"`scale_fn`.*nan"):
        CyclicPolicy(scale_fn=lambda c: float("nan")).rate(3)

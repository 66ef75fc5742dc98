"""What holds for every valid setting, and that every invalid one is refused: by Hypothesis."""

import math
from dataclasses import asdict, fields, replace

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clr import (
    CyclicalLearningRate,
    CyclicLR,
    CyclicPolicy,
    Experiment,
    OneCycleLearningRate,
    OneCyclePolicy,
    Run,
)
from clr.policies import MODES
from clr.range_test import RangeTest
from clr.training import METHODS

RATES = st.floats(0, 10)
COUNTS = st.integers(1, 5000)
SHARES = st.floats(0, 0.999)
ITERATIONS = st.integers(0, 10**9)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def policies(draw, modes=MODES):
    base, top = sorted((draw(RATES), draw(RATES)))
    return CyclicPolicy(
        base,
        top,
        draw(COUNTS),
        draw(st.sampled_from(modes)),
        draw(st.floats(0.99, 1)),
        step_size_down=draw(st.none() | COUNTS),
    )


@st.composite
def one_cycles(draw):
    three = draw(st.booleans())
    share = draw(st.floats(0.05, 0.45 if three else 0.95))
    total = draw(st.integers(100, 100_000))
    return OneCyclePolicy(
        draw(st.floats(1e-6, 10)),
        total,
        share,
        draw(st.sampled_from(("cos", "linear"))),
        draw(st.floats(1, 100)),
        draw(st.floats(1, 1e5)),
        three,
    )


# The policies


@given(policies(), ITERATIONS)
def test_the_rate_is_between_the_bounds(policy, iteration):
    slack = 1e-12 * policy.max_lr
    assert policy.base_lr - slack <= policy.rate(iteration) <= policy.max_lr + slack


@given(policies(), st.integers(0, 10**6))
def test_it_is_base_lr_at_the_ends_of_the_cycles(policy, cycle):
    assert policy.rate(cycle * policy.cycle_length) == policy.base_lr


@given(policies(modes=("triangular",)), st.integers(0, 10**6))
def test_it_is_max_lr_at_the_turns_and_the_same_in_every_cycle(policy, cycle):
    begin = cycle * policy.cycle_length
    assert policy.rate(begin + policy.step_size) == pytest.approx(policy.max_lr, rel=1e-12)
    places = np.linspace(0, policy.cycle_length, 20, dtype=int)
    assert (policy.rate(begin + places) == policy.rate(places)).all()


@given(policies(), st.integers(0, 50))
def test_it_rises_to_the_turn_and_falls_from_there(policy, cycle):
    assume(policy.mode != "exp_range" or policy.gamma == 1)  # Decay can outweigh the rise.
    begin = cycle * policy.cycle_length
    steps = np.diff(policy.rate(begin + np.arange(policy.cycle_length + 1)))
    slack = 1e-12 * policy.max_lr
    assert (steps[: policy.step_size] >= -slack).all()
    assert (steps[policy.step_size :] <= slack).all()


@given(policies(modes=("triangular",)), COUNTS)
def test_equal_halves_are_mirror_images(policy, place):
    policy = replace(policy, step_size_down=None)
    place %= policy.cycle_length
    mirrored = policy.rate(policy.cycle_length - place)
    assert policy.rate(place) == pytest.approx(mirrored, abs=1e-12 * policy.max_lr)


@given(policies(modes=("triangular2",)), st.integers(0, 2000))
def test_triangular2_halves_the_amplitude(policy, cycle):
    turn = policy.rate(cycle * policy.cycle_length + policy.step_size)
    amplitude = (policy.max_lr - policy.base_lr) * 0.5**cycle
    assert turn - policy.base_lr == pytest.approx(amplitude, abs=1e-12 * policy.max_lr)


@given(one_cycles(), ITERATIONS)
def test_one_cycle_stays_between_its_last_rate_and_the_turn(policy, iteration):
    last = policy.max_lr / policy.div_factor / policy.final_div_factor
    slack = 1e-12 * policy.max_lr
    assert last - slack <= policy.rate(iteration) <= policy.max_lr + slack
    assert policy.base_momentum - 1e-12 <= policy.momentum(iteration)
    assert policy.momentum(iteration) <= policy.max_momentum + 1e-12


@given(policies() | one_cycles(), ITERATIONS)
def test_momentum_goes_against_the_rate(policy, iteration):
    sooner, later = (policy.rate(i) for i in (iteration, iteration + 1))
    before, after = (policy.momentum(i) for i in (iteration, iteration + 1))
    assert (later - sooner) * (after - before) <= 1e-12


# The schedules


@given(policies(), ITERATIONS)
def test_the_schedule_agrees_to_rounding(policy, iteration):
    given = asdict(policy)
    schedule = CyclicalLearningRate(
        **{name: given[name] for name in given if "momentum" not in name}
    )
    # Below float32's smallest normal number a rate may be 0.
    rounding = 1e-6 * policy.max_lr + np.finfo("float32").tiny
    assert abs(float(schedule(iteration)) - policy.rate(iteration)) <= rounding
    again = CyclicalLearningRate.from_config(schedule.get_config())
    assert again.policy == schedule.policy


@given(one_cycles(), ITERATIONS)
def test_the_one_cycle_schedule_agrees_to_rounding(policy, iteration):
    schedule = OneCycleLearningRate.from_config(OneCycleLearningRate(**asdict(policy)).get_config())
    assert schedule.policy == policy
    assert abs(float(schedule(iteration)) - policy.rate(iteration)) <= 2e-6 * policy.max_lr


# The callback


def fit(model, callback, epochs, begun=0):
    x = np.zeros((8, 1), "float32")
    model.fit(
        x, x, batch_size=2, epochs=epochs, initial_epoch=begun, callbacks=[callback], verbose=0
    )


@pytest.fixture(scope="module")
def model():
    """Four batches an epoch; run eagerly, for it is compiled anew for each example."""
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


@pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")
@settings(max_examples=10)
@given(policy=policies(), stop=st.integers(1, 3))
def test_a_training_taken_up_again_has_the_rates_of_one_not_interrupted(model, policy, stop):
    setting = {f.name: getattr(policy, f.name) for f in fields(policy)}
    model.compile("sgd", "mse", run_eagerly=True)
    sooner, later = CyclicLR(**setting), CyclicLR(**setting)
    fit(model, sooner, stop)
    fit(model, later, 4, begun=stop)
    rates = sooner.history["lr"] + later.history["lr"]
    assert rates == policy.rate(np.arange(16)).tolist()


# What is kept in files


AVERAGES = ("macro avg", "weighted avg")
EXPERIMENTS = st.builds(
    Experiment,
    clr_method=st.sampled_from(tuple(METHODS)),
    min_lr=st.floats(0, 1e-4),
    max_lr=st.floats(1e-3, 10),
    step_size=st.integers(1, 100),
    num_epochs=st.integers(1, 100),
    width=st.floats(0.1, 2),
    momentum=SHARES,
    seed=st.integers(0, 2**31),
    augment=st.booleans(),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "kept.json"


@given(
    experiment=EXPERIMENTS,
    losses=st.lists(st.floats(), min_size=1, max_size=100),
    name=st.text(),
    count=st.integers(0, 10**6),
)
def test_a_run_comes_back_from_its_file_as_it_was(path, experiment, losses, name, count):
    scores = {"precision": 0.5, "recall": 0.5, "f1-score": 0.5, "support": count}
    run = Run(
        experiment=replace(experiment, num_epochs=len(losses)),
        history={"loss": losses, name: losses},
        iterations_per_epoch=10,
        classes=[name, "other"],
        report={"accuracy": 0.5, **{row: scores for row in [name, "other", *AVERAGES]}},
        confusion=[[count, 0], [0, count]],
        parameters=1,
        examples={"train": 10 * experiment.batch_size, "test": 1},
        seconds={"train": 1.0, "evaluate": 1.0},
        data=name,
        hardware={"processor": name, "cores": 1, "accelerators": []},
        versions={"keras": name},
        commit=None,
        started=name,
    )
    run.save(path)
    again = Run.load(path)
    assert repr(again) == repr(run)  # A loss may be NaN, which equals nothing.
    assert (again.rates() == run.rates()).all()


@given(
    curve=st.lists(st.tuples(FINITE, FINITE), max_size=20),
    accuracies=st.booleans(),
    rewound=st.booleans(),
)
def test_a_range_test_comes_back_from_its_file_as_it_was(path, curve, accuracies, rewound):
    lrs, losses = [rate for rate, _ in curve], [loss for _, loss in curve]
    result = RangeTest(
        *(lrs, losses, losses if accuracies else None, "data ended", rewound),
        config={"num_steps": 20, "beta": 0.98, "validation_every": None},
    )
    result.to_json(path)
    assert RangeTest.from_json(path) == result


# What is refused


BAD_RATES = st.sampled_from((math.nan, math.inf, -1.0, -math.inf)) | st.floats(max_value=-1e-9)
BAD_COUNTS = st.sampled_from((0, -1, math.nan, math.inf)) | st.floats(0.01, 100).filter(
    lambda x: x != int(x)
)
BAD_CHOICES = st.text().filter(lambda text: text not in MODES)
NOT_NUMBERS = st.sampled_from((None, "1", [1], True, 1j))


@pytest.mark.parametrize("make", [CyclicPolicy, CyclicLR, CyclicalLearningRate])
@given(data=st.data())
def test_a_bad_value_is_refused_by_name(make, data):
    name, values = data.draw(
        st.sampled_from(
            [
                ("base_lr", BAD_RATES),
                ("max_lr", BAD_RATES),
                ("step_size", BAD_COUNTS),
                ("step_size_down", BAD_COUNTS),
                ("mode", BAD_CHOICES),
                ("scale_mode", st.text().filter(lambda text: text not in ("cycle", "iterations"))),
                ("gamma", st.sampled_from((0, 1.001, -0.5, math.nan)) | st.floats(min_value=1.01)),
            ]
        )
    )
    value = data.draw(values)
    with pytest.raises(ValueError, match=f"`{name}` must"):
        make(**{name: value})


@given(name=st.sampled_from(("base_lr", "max_lr", "step_size", "gamma")), value=NOT_NUMBERS)
def test_a_value_of_the_wrong_type_is_refused_by_name(name, value):
    with pytest.raises(TypeError, match=f"`{name}` must"):
        CyclicPolicy(**{name: value})


@given(base=RATES, top=RATES)
def test_bounds_the_wrong_way_round_are_refused(base, top):
    assume(top < base)
    with pytest.raises(ValueError, match="`max_lr` must be at least `base_lr`"):
        CyclicPolicy(base, top)


@given(experiment=EXPERIMENTS, field=st.sampled_from(("min_lr", "max_lr")), value=BAD_RATES)
def test_a_bad_experiment_is_refused(experiment, field, value):
    with pytest.raises(ValueError, match=f"`{field}` must"):
        replace(experiment, **{field: value})

"""The reading `edge`, on curves whose descent and edge are known, and on those without either."""

import math
import warnings

import numpy as np
import pytest

from clr.range_test import RangeTest, reading

X = np.linspace(-10, 1, 300)


def falling(at=-4.0, edge=0.0, start=2.3, depth=1.5, x=X):
    """A loss whose fall is half made at 10**`at`; it rises beyond 10**`edge`."""
    return start - depth / (1 + np.exp(-6 * (x - at))) + 8 * depth * np.maximum(0, x - edge) ** 2


def flat_then_rising(x=X):
    return 2.3 + np.maximum(0, x + 1) ** 2 + noise(len(x), amount=0.02)


def curve(losses, lrs=None, stopped="end_lr reached", **config):
    """A range test that found just this."""
    lrs = 10 ** X[: len(losses)] if lrs is None else lrs
    defaults = {"beta": 0.98, "validation_every": None, "schedule": "exponential", "num_steps": 300}
    return RangeTest(
        np.asarray(lrs, float).tolist(),
        np.asarray(losses, float).tolist(),
        None,
        stopped,
        True,
        defaults | config,
    )


def noise(size, seed=0, amount=0.1):
    return np.random.default_rng(seed).normal(0, amount, size)


@pytest.fixture(autouse=True)
def a_warning_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def decades(lr, other):
    return math.log10(lr / other)


@pytest.mark.parametrize("losses", [falling(), falling() + noise(300)], ids=["calm", "noisy"])
def test_bounds_are_read_off_the_descent_and_the_edge(losses):
    found = curve(losses).suggest("edge")
    assert found.base_lr == pytest.approx(found.max_lr / 10)
    # Nine tenths of a logistic descent of steepness 6 are made 0.37 decades beyond its middle; the
    # average, itself 0.25 wide, makes it 0.1 more. The edge is not within ten times that.
    assert decades(found.max_lr, 10 * 10**-3.6) == pytest.approx(0, abs=0.2)
    assert found.marks["plateau"] < 1e-4 < found.marks["reach"] < found.marks["low"]
    assert decades(found.marks["edge"], 1) == pytest.approx(0, abs=0.2)
    assert found.warning is None


def test_a_near_edge_bounds_the_rate_at_its_third():
    found = curve(falling(at=-2, edge=-1)).suggest("edge")
    assert found.max_lr == found.marks["edge"] / 3
    assert decades(found.marks["edge"], 0.1) == pytest.approx(0, abs=0.2)


def test_the_edge_does_not_lag_as_a_moving_average_does():
    """The same curve in a tenth of the steps has its edge at the same rate."""
    edges = [
        curve(falling(at=-2, edge=-1, x=x), 10**x).suggest("edge").marks["edge"]
        for x in (np.linspace(-10, 1, 3000), X)
    ]
    assert decades(*edges) == pytest.approx(0, abs=0.05)


def test_negative_losses_shift_nothing():
    expected = curve(falling()).suggest("edge")
    for shift in (-2.3, -1.5, -100):
        found = curve(falling() + shift).suggest("edge")
        assert decades(found.max_lr, expected.max_lr) == pytest.approx(0, abs=0.05)


def test_a_plateau_near_0_is_no_ceiling():
    result = curve(falling(start=0) + noise(300, amount=0.05))
    assert 1e-3 < result.suggest("edge").max_lr < 1e-2
    assert result._curve("loss").centred().average.max() > 1


@pytest.mark.parametrize("scale", [1e-12, 1e12, 1e38])
def test_the_scale_of_the_losses_does_not_matter(scale):
    expected = curve(falling()).suggest("edge")
    assert curve(scale * falling()).suggest("edge")[:] == pytest.approx(expected[:])


def test_one_loss_of_1e12_does_not_matter_and_a_blow_up_is_the_edge():
    expected = curve(falling()).suggest("edge")
    losses = falling()
    losses[0] = losses[40] = 1e12
    found = curve(losses).suggest("edge")
    assert decades(found.max_lr, expected.max_lr) == pytest.approx(0, abs=0.1)
    losses = falling(at=-2)
    losses[X > -1] = 1e12
    marks = curve(losses, stopped="loss diverged").suggest("edge").marks
    assert decades(marks["edge"], 0.1) == pytest.approx(0, abs=0.5)
    assert marks["edge"] < 0.1


def test_a_linear_test_from_0_is_read_too():
    lrs = np.linspace(0, 0.2, 300)
    with np.errstate(divide="ignore"):
        x = np.log10(lrs)
    result = curve(falling(at=-2.3, edge=-1, x=x), lrs, schedule="linear")
    found = result.suggest("edge")
    assert found.max_lr == found.marks["edge"] / 3
    assert decades(found.marks["edge"], 0.1) == pytest.approx(0, abs=0.2)


def test_validation_losses_every_10_steps_are_read_at_the_same_rates():
    expected = curve(falling()).suggest("edge")
    result = curve(falling()[9::10], 10 ** X[9::10], validation_every=10)
    assert decades(result.suggest("edge").max_lr, expected.max_lr) == pytest.approx(0, abs=0.15)


def test_a_long_test_is_read_in_no_time():
    x = np.linspace(-10, 1, 100_000)
    assert 1e-3 < curve(falling(x=x) + noise(len(x)), 10**x).suggest("edge").max_lr < 1e-2

    rising = flat_then_rising(x=x)
    with pytest.warns(UserWarning, match="never falls"):
        assert curve(rising, 10**x).suggest("edge").max_lr < 1


def test_without_an_edge_it_warns_and_is_cautious():
    result = curve(falling()[:240])  # Up to 6e-2.
    with pytest.warns(UserWarning, match=r"never rises again.*higher end_lr") as caught:
        found = result.suggest("edge")
    assert caught[0].filename == __file__
    assert "edge" not in found.marks
    assert found.max_lr == 3 * found.marks["reach"]
    assert found.warning == str(caught[0].message)
    # Where the loss stopped being finite was the edge.
    end = curve(falling()[:240], stopped="loss not finite").suggest("edge")
    assert end.marks["edge"] == pytest.approx(10 ** X[238])
    assert end.max_lr == 10 * found.marks["reach"]


def test_few_steps_in_the_descent_are_warned_of():
    sparse = curve(falling()[::3], 10 ** X[::3])
    with pytest.warns(UserWarning, match=r"9 steps in the decade.*Raise num_steps 3 times"):
        sparse.suggest("edge")


def test_plots_are_not_disturbed_by_warnings():
    result = curve(falling()[:240])
    assert result.suggestions()["edge"].warning is not None
    result.plot()


def test_without_a_descent_beyond_the_noise_it_keeps_below_the_rise_and_warns():
    with pytest.warns(UserWarning, match=r"never falls beyond its own noise.*raise num_steps"):
        found = curve(flat_then_rising()).suggest("edge")
    assert found.max_lr == found.marks["edge"] / 3
    assert found.base_lr == found.max_lr / 10
    assert -1 < math.log10(found.marks["edge"]) < 0  # It is a tenth above 2.3 at 10**-0.52.


NONE = r"never falls beyond its own noise.*flat, raise end_lr.*only gets worse, lower start_lr"


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        *[(2.3 + noise(300, seed), NONE) for seed in range(20)],
        *[(noise(300, seed), NONE) for seed in range(20)],
        (np.full(300, 2.3), NONE),
        (np.zeros(300), NONE),
        (np.full(300, 1e12), NONE),
        (np.linspace(2.3, 9, 300), NONE),
        (np.linspace(2.3, 2.8, 300) + noise(300), NONE),
        (np.linspace(-9, -2, 300), NONE),
        (np.geomspace(1, 1e12, 300), NONE),
        (falling(at=-9.95, edge=-9.9), NONE),
        ([], "too short to read: 0 points.*data for NaN"),
        (falling()[:5], "too short to read: 5 points"),
        (falling()[:15], "too short to read: 15 points"),
    ],
)
def test_a_curve_without_an_answer_says_so_and_what_to_try(losses, message):
    with pytest.raises(ValueError, match=message):
        curve(losses).suggest("edge")


def test_flat_until_a_loss_is_not_finite_is_no_edge():
    """Poisoned data, say, at whatever rate the test was."""
    with pytest.raises(ValueError, match=NONE):
        curve(2.3 + noise(60), stopped="loss not finite").suggest("edge")


# --- halfway along the longest descent ------------------------------------------------------------


@pytest.mark.parametrize("method", ["valley", "steepest", "minimum", "edge"])
@pytest.mark.parametrize("size", [200, 500])
def test_a_curve_without_noise_is_read_alike_whatever_the_first_rate(method, size):
    rates = []
    for first in (-10, -7, -5):
        x = np.linspace(first, 1, size)
        rates.append(curve(falling(at=-2, edge=0, x=x), 10**x)._read(method).max_lr)
    assert max(rates) < 10 * min(rates)
    assert min(rates) > 1e-3 and max(rates) < 1


def test_the_valley_of_a_noisy_curve_is_where_fastai_reads_it():
    result = curve(falling() + noise(300))
    way = result._curve("loss").way()
    assert result.suggest("valley").max_lr == way.lrs[reading._mid_valley(way.values)]


def test_a_valley_on_the_plateau_is_warned_of():
    with pytest.warns(UserWarning, match=r"is on the plateau, at .*start_lr here.*\"edge\""):
        found = curve(falling(at=-1) + noise(300, amount=0.002)).suggest("valley")
    assert found.max_lr < 0.03  # The loss has made a tenth of its way at 0.06.

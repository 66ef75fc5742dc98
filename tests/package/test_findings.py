import math

import pytest

from clr.findings import ends, interval, spread, table, verdict


def test_a_mean_has_the_interval_that_a_hand_computes():
    mean, half = interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert half == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)  # t of 4 degrees.
    assert interval([1, 2, 3, 4, 5], 0.5)[1] == pytest.approx(0.740697 * math.sqrt(0.5), rel=1e-6)
    assert interval([7.0]) == (7.0, math.inf)


@pytest.mark.parametrize(
    "shift, told",
    [(3, "+1.0 to +5.0"), (1.96325, "+0.000 to +3.926"), (1.95, "-0.01 to +3.91")],
)
def test_the_ends_of_an_interval_have_digits_until_none_reads_as_zero(shift, told):
    assert ends(shift + n for n in (-2, -1, 0, 1, 2)) == told


@pytest.mark.parametrize(
    "values, told",
    [
        ([1.71, 1.69, 1.69], "+1.67 to +1.73"),
        ([2.0] * 3, "+2.000 to +2.000"),
        ([2.0], "-inf to +inf"),
    ],
)
def test_the_ends_of_an_interval_have_digits_until_they_differ(values, told):
    assert ends(values) == told


@pytest.mark.parametrize(
    "values, told",
    [([], "-"), ([75.36], "75.4"), ([1, 2, 3], "2.0 ± 1.0"), (iter([1, 2, 3]), "2.0 ± 1.0")],
)
def test_a_spread_is_the_standard_deviation_of_a_sample(values, told):
    assert spread(values) == told


@pytest.mark.parametrize(
    "values, least, told",
    [
        ([2.0, 2.1, 2.2], 0, "better"),
        ([2.0, 2.1, 2.2], 2, "not settled"),
        ([2.0, 2.1, 2.2], 3, "worse"),
        ([-2.0, 2.1, 2.2], 0, "not settled"),
        ([2.0, 2.1], 0, "not settled"),
        ([2.0, 2.0, 2.0], 0, "better"),
        ([0.0, 0.0, 0.0], 0, "not settled"),
    ],
)
def test_a_verdict_needs_three_values_and_an_interval_on_one_side(values, least, told):
    assert verdict(values, least=least) == told


def test_words_and_the_number_of_values_are_yours():
    assert verdict([2.0, 3.0], words=("pays", "costs"), seeds=2) == "not settled"
    assert verdict([2.0, 2.01], words=("pays", "costs"), seeds=2) == "pays"
    assert verdict([-2.0, -2.01], words=("pays", "costs"), seeds=2) == "costs"


def test_a_table_is_markdown(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    table(["rate", 1], ([name, value] for name, value in {"a": 0.5, "b": None}.items()))
    assert shown[0].data == "| rate | 1 |\n| --- | --- |\n| a | 0.5 |\n| b | None |"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"must have 2 cells.*Received: \['a'\]"):
        table(["rate", "accuracy"], [["a"]])

"""Arguments: what is right comes back in its plain type, what is wrong is named and echoed."""

import math

import numpy as np
import pytest

from clr import CyclicalLearningRate, CyclicLR, CyclicPolicy, Experiment, checks


@pytest.mark.parametrize(
    "check, value, expected",
    [
        (checks.rate, 0, 0.0),
        (checks.rate, np.float32(0.5), 0.5),
        (checks.above, 2, 2.0),
        (checks.share, 0, 0.0),
        (checks.decay, 1, 1.0),
        (checks.count, 2000.0, 2000),
        (checks.count, np.int64(3), 3),
        (checks.flag, True, True),
        (checks.path, "folder", "folder"),
        (checks.path, None, None),
    ],
)
def test_what_is_right_is_returned_in_its_plain_type(check, value, expected):
    found = check("argument", value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "check, value, error, text",
    [
        (checks.rate, "0.1", TypeError, "must be a number. Received: argument='0.1'"),
        (checks.rate, True, TypeError, "must be a number. Received: argument=True"),
        (
            checks.rate,
            math.nan,
            ValueError,
            "must be finite and at least 0. Received: .*nan",
        ),
        (checks.rate, -1, ValueError, "must be finite and at least 0. Received: argument=-1"),
        (checks.above, 0, ValueError, "must be above 0. Received: argument=0"),
        (checks.above, -1, ValueError, "must be finite and at least 0. Received: argument=-1"),
        (checks.share, 1, ValueError, r"must be in \[0, 1\). Received: argument=1"),
        (checks.decay, 0, ValueError, r"must be in \(0, 1\]. Received: argument=0"),
        (checks.decay, 1.5, ValueError, r"must be in \(0, 1\]. Received: argument=1.5"),
        (checks.count, None, TypeError, "must be a whole number. Received: argument=None"),
        (
            checks.count,
            2.5,
            ValueError,
            "must be a whole number, at least 1, such as 2 or 3. Received: .*2.5",
        ),
        (checks.count, math.inf, ValueError, "must be a whole number, at least 1. Received: .*inf"),
        (checks.count, 0, ValueError, "must be a whole number, at least 1. Received: argument=0"),
        (checks.flag, 1, TypeError, "must be a bool. Received: argument=1"),
        (checks.path, 1, TypeError, "must be a path or None. Received: argument=1"),
    ],
)
def test_what_is_wrong_is_named_and_echoed(check, value, error, text):
    with pytest.raises(error, match=rf"^`argument` {text}$"):
        check("argument", value)


def test_limits_are_the_callers():
    assert checks.rate("r", 5, minimum=5) == 5 and checks.count("n", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="`r` must be above 1"):
        checks.above("r", 1, limit=1)
    with pytest.raises(ValueError, match="`n` must be a whole number, at least 2"):
        checks.count("n", 1, minimum=2)
    assert checks.count("n", 9, maximum=9) == 9
    with pytest.raises(ValueError, match=r"at least 1 and at most 9\. Received: n=10"):
        checks.count("n", 10, maximum=9)
    with pytest.raises(ValueError, match=r"and at most 9, such as 2 or 3\. Received: n=2\.5"):
        checks.count("n", 2.5, maximum=9)


@pytest.mark.parametrize("make", [CyclicPolicy, CyclicLR, CyclicalLearningRate])
def test_a_fraction_of_batches_comes_with_the_way_to_count_them(make):
    said = (
        r"such as 6 or 7.*step_size=4 \* math\.ceil\(n / batch_size\)\. Received: step_size=6\.25"
    )
    with pytest.raises(ValueError, match=said):
        make(step_size=4 * 100 / 64)
    with pytest.raises(ValueError) as caught:
        make(step_size=-1)
    assert "ceil" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        Experiment(step_size=1.5)  # Epochs.
    assert "such as 1 or 2" in str(caught.value) and "ceil" not in str(caught.value)


def test_a_choice_is_one_of_the_choices():
    assert checks.choice("mode", "a", ("a", "b")) == "a"
    for wrong in ("c", None, ["a"]):
        with pytest.raises(ValueError, match=r"`mode` must be one of a, b. Received: mode="):
            checks.choice("mode", wrong, ("a", "b"))


def test_an_upper_bound_is_not_below_the_lower_one():
    checks.at_least("high", 1.0, "low", 1.0)
    with pytest.raises(ValueError, match=r"`high` must be at least `low`\. .*high=0\.5, low=1"):
        checks.at_least("high", 0.5, "low", 1.0)

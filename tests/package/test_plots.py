"""Each figure shows the numbers that it is given, in the axes that it is given."""

import io
from types import SimpleNamespace

import keras
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from clr import CyclicPolicy, plots
from clr.range_test import RangeTest


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


HISTORY = {
    "loss": [2.0, 1.0],
    "accuracy": [0.25, 0.5],
    "val_loss": [2.5, 1.5],
    "val_accuracy": [0.125, 0.375],
}


def fitted():
    """What `fit` returns, with validation data and accuracy."""
    x, y = np.random.default_rng(0).normal(size=(32, 4)), np.arange(32) % 2
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(x, y, epochs=2, validation_split=0.25, verbose=0)


@pytest.mark.parametrize("make", [lambda: SimpleNamespace(history=HISTORY), fitted])
def test_training_plot_shows_the_history_of_whatever_has_one(make, ax):
    run = make()
    assert plots.training(run, ax) is ax
    right = next(other for other in ax.figure.axes if other is not ax)
    for axes, name in [(ax, "loss"), (right, "accuracy")]:
        drawn = {line.get_label(): line for line in axes.lines}
        assert list(drawn[f"training {name}"].get_ydata()) == run.history[name]
        assert list(drawn[f"validation {name}"].get_ydata()) == run.history[f"val_{name}"]
        assert list(drawn[f"training {name}"].get_xdata()) == [1, 2]
    assert len(ax.get_legend().get_texts()) == 4


def test_policy_plot_shows_four_cycles(ax):
    policy = CyclicPolicy(0.1, 0.5, 4, "triangular2")
    plots.policy(policy, ax=ax, label="waves")
    plots.policy(policy, 3, ax=ax)
    whole, part = ax.lines
    assert whole.get_label() == "waves"
    np.testing.assert_array_equal(whole.get_ydata(), policy.rate(np.arange(33)))
    np.testing.assert_array_equal(part.get_ydata(), policy.rate(np.arange(3)))
    assert "iteration" in ax.get_xlabel() and "rate" in ax.get_ylabel()


def test_plots_make_their_own_axes():
    first, second = plots.rates([1, 2, 3]), plots.rates([4, 5])
    assert first.figure is not second.figure
    assert list(first.lines[0].get_ydata()) == [1, 2, 3]
    plt.close(first.figure), plt.close(second.figure)


def test_png_is_an_image_of_the_figure(ax):
    image = matplotlib.image.imread(io.BytesIO(plots.png(plots.rates([0, 1, 0], ax))))
    assert image.ndim == 3 and len(np.unique(image)) > 2


def test_style_is_applied_on_request_only():
    with plt.rc_context():
        plt.rcdefaults()
        assert plt.rcParams["axes.spines.top"]
        plots.use_style()
        assert not plt.rcParams["axes.spines.top"]
        assert plt.rcParams["savefig.facecolor"] == "none"


# Range tests


LOG_RATES = np.linspace(-6, 1, 141)
S_SHAPED = 2.3 - 1.5 / (1 + np.exp(-4 * (LOG_RATES + 3))) + np.maximum(0, LOG_RATES + 1) ** 3


def curve(losses, **config):
    """A range test that found just this."""
    lrs = np.geomspace(1e-6, 10, len(losses))
    defaults = {"beta": 0.5, "validation_every": None, "schedule": "exponential", "num_steps": 100}
    return RangeTest(list(lrs), list(losses), None, "end_lr reached", True, defaults | config)


def test_range_test_plot_shows_raw_and_smoothed_losses_and_the_suggestions(ax):
    result = curve(S_SHAPED)
    assert result.plot(ax) is ax
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "loss")
    lines = {line.get_label().split(":")[0]: line for line in ax.lines}
    assert list(lines) == ["batch", "smoothed", "steepest", "valley", "minimum", "edge"]
    np.testing.assert_array_equal(lines["batch"].get_ydata(), result.losses[10:-1])
    np.testing.assert_array_equal(lines["smoothed"].get_ydata(), result.smoothed[10:-1])
    for method in ("steepest", "valley", "minimum"):
        assert lines[method].get_xdata()[0] == result.suggest(method).max_lr
    (band,) = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(result.suggest()[:])


def test_range_test_plot_of_validation_losses_skips_as_many_steps_not_points(ax):
    result = curve(S_SHAPED, validation_every=4)
    plots.range_test(result, ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), result.losses[3:-1])
    assert ax.get_ylabel() == "validation loss"


def test_range_test_plot_of_a_curve_without_an_answer_is_drawn_without_marks(ax):
    curve([2.3] * 50, schedule="linear").plot(ax)
    assert len(ax.lines) == 2 and not ax.patches
    assert ax.get_xscale() == "linear"


def test_range_test_plot_of_a_loss_that_is_never_negative_begins_at_zero_at_the_lowest():
    falling = [10.0] * 30 + [0.01] * 30
    positive, negative = curve(falling).plot(), curve([loss - 5 for loss in falling]).plot()
    assert positive.get_ylim()[0] == 0
    assert negative.get_ylim()[0] < -4
    plt.close(positive.figure), plt.close(negative.figure)

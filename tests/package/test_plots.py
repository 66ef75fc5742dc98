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
FALLING = 2.3 - 1.5 / (1 + np.exp(-4 * (LOG_RATES + 1)))  # It never rises again.
SHARP = FALLING + np.maximum(0, LOG_RATES + 0.3) * 8
# The edge is near the descent.
NARROW = 2.3 - 1.0 / (1 + np.exp(-15 * (LOG_RATES + 1)))
NARROW += np.maximum(0, LOG_RATES + 0.7) ** 2 * 4 - 0.5 * np.clip((LOG_RATES + 1) / 0.4, 0, 1)
RISING = 2.3 + np.maximum(0, LOG_RATES + 1) ** 2


def curve(losses, **config):
    """A range test that found just this."""
    rates = np.geomspace(1e-6, 10, len(losses))
    if config.get("schedule") == "linear":
        rates = np.linspace(0, 1, len(losses))
    defaults = {"beta": 0.5, "validation_every": None, "schedule": "exponential", "num_steps": 100}
    return RangeTest(list(rates), list(losses), None, "end_lr reached", True, defaults | config)


def lines(ax):
    """The lines by label."""
    return {line.get_label(): line for line in ax.lines}


def words(ax):
    """The words along the curve: where each points to, as rate and loss."""
    return {text.get_text(): text.xy for text in ax.texts}


LINEAR = np.interp(np.linspace(0, 1, 141), [0, 0.1, 0.3, 0.4, 1], [2.3, 1.4, 0.9, 1, 4])


@pytest.mark.parametrize(
    ("result", "marks"),
    [
        (curve(S_SHAPED), ["plateau", "reach", "low", "edge"]),
        (curve(SHARP), ["plateau", "reach", "low", "edge"]),
        (curve(FALLING), ["plateau", "reach", "low"]),
        (curve(RISING), ["plateau", "edge"]),
        (curve(LINEAR, schedule="linear"), ["plateau", "reach", "low", "edge"]),
    ],
    ids=["clean", "an edge just after the lowest", "no edge", "only rising", "linear"],
)
def test_range_test_plot_names_what_was_read_along_the_curve(result, marks, ax):
    assert result.plot(ax) is ax
    found = result.suggestions()["edge"]
    assert list(found.marks) == marks
    named = words(ax)
    assert ("plateau" in named) == ("plateau" in marks)
    assert ("descent" in named) == ({"plateau", "low"} <= set(marks))
    assert ("edge" in named) == ("edge" in marks)
    if "descent" in named:
        assert found.marks["plateau"] < named["descent"][0] < found.marks["low"]
        assert named["plateau"][0] < found.marks["plateau"]
    if "edge" in named:
        (sign,) = [line for line in ax.lines if line.get_marker() == "X"]
        ((lr, height),) = sign.get_xydata()
        assert lr == named["edge"][0] == found.marks["edge"]
        # On the average, so that the sign stands where the reading saw the loss.
        rates, average = result.averaged
        assert height == pytest.approx(average[np.argmin(abs(rates - lr))])
    (band,) = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((*found,))
    assert band.get_label() == f"edge: {found.base_lr:.2g} to {found.max_lr:.2g}"


def test_range_test_plot_shows_the_batches_and_the_average_that_was_read(ax):
    result = curve(S_SHAPED)
    result.plot(ax)
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn["batch"].get_xydata().T, (result.lrs[:-1], S_SHAPED[:-1]))
    np.testing.assert_array_equal(drawn["average"].get_xydata().T, result.averaged)
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "loss")


def test_range_test_plot_shows_the_bounds_of_the_trials_where_there_were_any(ax):
    result = curve(S_SHAPED)
    result.trials = [(0.0, 2.3), (0.03, 0.93), (0.01, 0.91), (0.003, 1.5)]
    result.plot(ax)
    (band,) = ax.patches
    assert band.get_label() == "trials: 0.001 to 0.01"
    assert ax.get_title() == "Suggested max_lr: 0.01"


def test_range_test_plot_keeps_a_title_and_says_if_there_is_no_suggestion(ax):
    curve([2.3] * 50).plot(ax)
    assert ax.get_title() == "This curve suggests no rate"
    ax.set_title("mine")
    assert curve(S_SHAPED).plot(ax).get_title() == "mine"


def test_range_test_words_do_not_touch():
    for losses in (S_SHAPED, SHARP, FALLING, RISING, NARROW):
        with plt.rc_context(plots.STYLE):
            ax = curve(losses).plot()
            ax.figure.draw_without_rendering()
            boxes = [text.get_window_extent() for text in ax.texts]
            for i, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:i])
                assert ax.figure.bbox.x0 <= box.x0 and box.x1 <= ax.figure.bbox.x1
            plt.close(ax.figure)


def test_range_test_plot_of_validation_losses_says_so(ax):
    plots.range_test(curve(S_SHAPED, validation_every=4), ax)
    assert ax.get_ylabel() == "validation loss"


@pytest.mark.parametrize("points", [0, 1, 2, 3, 50])
def test_range_test_plot_of_a_curve_without_an_answer_is_drawn_without_words(points, ax):
    curve([2.3] * points, schedule="linear").plot(ax)
    assert set(lines(ax)) <= {"batch", "average"} and not ax.patches and not ax.texts
    assert ax.get_xscale() == "linear"


def test_range_test_plot_of_a_loss_that_is_never_negative_begins_at_zero_at_the_lowest():
    falling = [10.0] * 30 + [0.01] * 30
    positive, negative = curve(falling).plot(), curve([loss - 5 for loss in falling]).plot()
    assert positive.get_ylim()[0] == 0
    assert negative.get_ylim()[0] < -4
    plt.close(positive.figure), plt.close(negative.figure)


def test_range_test_plot_is_not_flattened_by_a_batch_that_blew_up_and_shows_the_plateau(ax):
    losses = S_SHAPED.copy()
    losses[3], losses[-3:] = 3.3, 1e6
    curve(losses).plot(ax)
    assert 3.3 < ax.get_ylim()[1] < 6


@pytest.mark.parametrize("losses", [S_SHAPED, SHARP, FALLING, RISING, [2.3] * 50])
def test_range_test_legend_is_legible_and_covers_neither_curve_nor_axis_label(losses):
    with plt.rc_context(plots.STYLE):
        ax = curve(losses).plot()
        ax.figure.draw_without_rendering()
        texts = [text for text in ax.get_legend().get_texts() if text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 10
        boxes = [text.get_window_extent() for text in [*texts, ax.xaxis.label]]
        boxes.append(ax.get_window_extent())
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
        whole = ax.figure.bbox
        for box in boxes:
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0
        plt.close(ax.figure)


def luminance(colour):
    """Relative luminance, as the Web Content Accessibility Guidelines 2.2 define it."""
    channels = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in matplotlib.colors.to_rgb(colour)
    ]
    return np.dot([0.2126, 0.7152, 0.0722], channels)


def contrast(one, other):
    lower, higher = sorted([luminance(one), luminance(other)])
    return (higher + 0.05) / (lower + 0.05)


def test_text_in_figures_has_contrast_on_light_pages_and_inverted_on_dark_ones():
    inverted = tuple(1 - c for c in matplotlib.colors.to_rgb(plots.INK))
    assert contrast(plots.INK, "white") >= 4.5
    assert contrast(inverted, "#14181e") >= 4.5  # The theme's dark page.
    assert contrast("#777777", "white") < 4.5  # So the measure tells.

"""Figures. Each takes `ax=None`, draws into those Axes or new ones, and returns them."""

import io
import sys
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import ScaledTranslation

from clr.policies import CyclicPolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#6a6a6a"  # On a white page. The book's style sheet inverts figures on a dark one.
BLUE, ORANGE, GREEN, PINK, PURPLE, OCHRE = CYCLE = (
    "#3d7fd9", "#e0762b", "#2a9d6e", "#c44e8a", "#8f6fd1", "#a58a1f"
)  # fmt: skip
# A method has its colour on every page. `valley.css` repeats two of them.
COLOURS = {
    "constant": INK,
    "triangular": BLUE,
    "triangular2": ORANGE,
    "one_cycle": GREEN,
    "cosine": PINK,  # With a warm-up or restarts as well.
    "exp_range": PURPLE,
    "linear": OCHRE,  # And whatever else falls in straight lines: step decay, WSD's end.
    "step": OCHRE,
}
STYLE: Any = {
    # So wide that 10 points are 9 pixels on a telephone's screen.
    "figure.figsize": (5, 3.2),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,  # Legends outside the axes get their room.
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "clr",  # The same figure is the same file.
}


def use_style() -> None:
    """Makes the book's style matplotlib's default: transparent, and in a notebook sharp (SVG)."""
    plt.rcParams.update(STYLE)
    if "ipykernel" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # As large as asked for: what a tight box adds would shrink the text on a telephone.
        set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches=None)


def policy(
    policy: CyclicPolicy, iterations: int | None = None, ax: "Axes | None" = None, **line: Any
) -> "Axes":
    """Draws a policy's rate over iterations.

    Args:
        policy: The policy.
        iterations: How many iterations to draw. Defaults to four cycles.
        ax: Axes to draw into. Defaults to new ones.
        **line: Passed to `Axes.plot`, such as `label`.

    Raises:
        TypeError: `policy` is `None`, as a callback's is that spans `fit`, before `fit`.
    """
    if policy is None:
        raise TypeError(
            "`policy` must be a policy. A callback that spans `fit` has one only after the first "
            "epoch began: draw it then, or name its length. Received: policy=None"
        )
    i = np.arange(4 * policy.cycle_length + 1 if iterations is None else iterations)
    return rates(policy.rate(i), ax, **line)


def rates(values: Any, ax: "Axes | None" = None, **line: Any) -> "Axes":
    """Draws the rate of every iteration, such as `CyclicLR.history["lr"]`.

    Args:
        values: Sequence of rates, one an iteration.
        ax: Axes to draw into. Defaults to new ones.
        **line: Passed to `Axes.plot`, such as `label`.
    """
    ax = _axes(ax)
    ax.plot(values, **line)
    ax.set(xlabel="iteration (batches)", ylabel="learning rate")
    return ax


def training(run: Any, ax: "Axes | None" = None) -> "Axes":
    """Draws loss (left scale) and accuracy (right scale) of training and validation, by epoch.

    Args:
        run: Anything whose `history` maps `loss`, `val_loss`, `accuracy` and `val_accuracy` to one
            number an epoch. This can be a `Run`, or what `fit` returns for a model that was
            compiled with `metrics=["accuracy"]` and fitted with validation data.
        ax: Axes to draw into. Defaults to new ones.
    """
    ax = _axes(ax)
    right = ax.twinx()
    epochs = np.arange(1, len(run.history["loss"]) + 1)
    for axes, name, colour in [(ax, "loss", "C1"), (right, "accuracy", "C0")]:
        axes.plot(epochs, run.history[name], colour, linestyle=":", label=f"training {name}")
        axes.plot(epochs, run.history[f"val_{name}"], colour, label=f"validation {name}")
        axes.set_ylabel(name)
    ax.set(xlabel="epoch")
    right.set_ylim(0, 1)
    right.grid(False)
    right.spines["right"].set_visible(True)
    lines = [*ax.lines, *right.lines]
    ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
    return ax


def range_test(result: Any, ax: "Axes | None" = None) -> "Axes":
    """Draws a range test's loss over the rate: of each batch (faint), and averaged without a lag.

    A band shows the bounds that `suggest` returns, and the title their `max_lr`, unless the axes
    have one. Words name what `"edge"` reads, as far as the curve has it: the plateau, the descent,
    and the edge, where the loss begins to rise. The last point is left out.

    Args:
        result: A `RangeTest`.
        ax: Axes to draw into. Defaults to new ones.
    """
    ax = _axes(ax, height=1.15)
    losses = result.losses[:-1]
    ax.plot(result.lrs[:-1], losses, "C0", alpha=0.3, label="batch")
    if sum(lr > 0 for lr in result.lrs[:-1]) > 1:
        lrs, average = result.averaged
        ax.plot(lrs, average, "C0", label="average")
        # Not to the batches' top: one batch of a diverging net would flatten all the rest.
        top = max(average.max(), *losses[: len(losses) // 10])
        ax.set_ylim(top=top + (0.1 * np.ptp(average) or 1.0))
        if average.min() >= 0:
            ax.set_ylim(bottom=max(0, ax.get_ylim()[0]))  # The margin would go below.
        _readings(result, ax)
    ax.set(
        xlabel="learning rate",
        ylabel="validation loss" if result.config["validation_every"] else "loss",
        xscale="log" if result.config["schedule"] == "exponential" else "linear",
    )
    _legend_below(ax)
    return ax


def _readings(result: Any, ax: "Axes") -> None:
    """Draws what was read off a range test: the suggested band, and words along the curve."""
    lrs, average = result.averaged
    found = result.suggestions()
    default = found.get(result.default_method)
    finding = "This curve suggests no rate"
    if default is not None:
        finding = f"Suggested max_lr: {default.max_lr:.2g}"
        label = f"{default.method}: {default.base_lr:.2g} to {default.max_lr:.2g}"
        ax.axvspan(*default, color="C2", alpha=0.18, linewidth=0, label=label)
    ax.set_title(ax.get_title() or finding)
    marks = found["edge"].marks if "edge" in found else {}

    def name(word: str, lr: float, x: int, y: int, **options: Any) -> None:
        """Writes a word beside the curve, so many points from where it has this rate."""
        height = np.interp(np.log(lr), np.log(lrs), average)
        ax.annotate(
            word, (lr, height), (x, y), textcoords="offset points", color=INK, zorder=4, **options
        )

    if "plateau" in marks:
        name("plateau", np.sqrt(lrs[0] * marks["plateau"]), 0, 5, ha="center")
        if "low" in marks:
            down = (lrs >= marks["plateau"]) & (lrs <= marks["low"])
            halfway = (average[down].max() + average[down].min()) / 2
            half = lrs[down][np.argmin(abs(average[down] - halfway))]
            name("descent", half, -6, -6, ha="right", va="top")
    if "edge" in marks:
        height = np.interp(np.log(marks["edge"]), np.log(lrs), average)
        ax.plot(marks["edge"], height, "C1X", markersize=8, zorder=4)
        name("edge", marks["edge"], 8, -3, va="center")


def _legend_below(ax: "Axes") -> None:
    """Draws a legend in one row below the axes, where it covers nothing."""
    below = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)  # Inches: the axis's labels.
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + below,
        ncols=3,
        columnspacing=1.2,
        handlelength=1.4,
        borderaxespad=0,
    )


def _axes(ax: "Axes | None", height: float = 1.0) -> "Axes":
    """Returns the axes, or new ones whose figure is so many times as high as usual."""
    if ax is not None:
        return ax
    width, usual = plt.rcParams["figure.figsize"]
    return plt.subplots(layout="constrained", figsize=(width, height * usual))[1]


def png(ax: "Axes") -> bytes:
    """Returns the figure that `ax` belongs to as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure: Any = ax.figure  # Typed as if it could be a subfigure.
    figure.savefig(buffer, format="png")
    return buffer.getvalue()

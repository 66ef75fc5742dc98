"""Figures. Each takes `ax=None`, draws into those Axes or new ones, and returns them."""

import io
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import ScaledTranslation

from clr.policies import CyclicPolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#777777"  # Reads on white and on black, so that one figure serves light and dark pages.
STYLE: Any = {
    "figure.figsize": (7.2, 3.6),
    "figure.dpi": 110,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.prop_cycle": plt.cycler(
        color=["#3d7fd9", "#e0762b", "#2a9d6e", "#c44e8a", "#8f6fd1", "#a58a1f"]
    ),
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

SIGNS = {  # Of the rates that "edge" reads: name, marker, colour.
    "plateau": ("plateau ends", ">", "C5"),
    "reach": ("9/10 down", "s", "C4"),
    "low": ("lowest", "v", "C3"),
    "edge": ("begins to rise", "X", "C1"),
}


def use_style() -> None:
    """Makes the book's style matplotlib's default: transparent, legible on light and dark."""
    plt.rcParams.update(STYLE)


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

    A band shows the bounds that `suggest` returns. Signs on the average show the rates that
    `"edge"` reads them from, as far as the curve has them: the plateau's end, nine tenths of the
    descent, the lowest point, and the edge, where the loss begins to rise. A small dot shows the
    `max_lr` of each other reading. The last point is left out.

    Args:
        result: A `RangeTest`.
        ax: Axes to draw into. Defaults to new ones.
    """
    ax = _axes(ax, height=1.25)
    losses = result.losses[:-1]
    columns: list[list[Any]] = [ax.plot(result.lrs[:-1], losses, "C0", alpha=0.3, label="batch")]
    if sum(lr > 0 for lr in result.lrs[:-1]) > 1:
        lrs, average = result.averaged
        columns[0] += ax.plot(lrs, average, "C0", label="average")
        columns = _readings(result, ax, columns[0])
        # Not to the batches' top: one batch of a diverging net would flatten all the rest.
        top = max(average.max(), *losses[: len(losses) // 10])
        ax.set_ylim(top=top + (0.1 * np.ptp(average) or 1.0))
        if average.min() >= 0:
            ax.set_ylim(bottom=max(0, ax.get_ylim()[0]))  # The margin would go below.
    ax.set(
        xlabel="learning rate",
        ylabel="validation loss" if result.config["validation_every"] else "loss",
        xscale="log" if result.config["schedule"] == "exponential" else "linear",
    )
    _legend_below(ax, [column for column in columns if column])
    return ax


def _readings(result: Any, ax: "Axes", curves: list[Any]) -> list[list[Any]]:
    """Draws what was read off a range test, and returns the legend's three columns."""
    lrs, average = result.averaged

    def sign(lr: float, marker: str, label: str, **options: Any) -> Any:
        height = np.interp(np.log(lr), np.log(lrs), average)
        label = f"{label} {lr:.1e}"
        return ax.plot(lr, height, marker, linestyle="none", label=label, **options)[0]

    found = result.suggestions()
    default = found.get(result.default_method)
    if default is not None:
        label = f"{default.method}: {default.base_lr:.1e} to {default.max_lr:.1e}"
        curves += [ax.axvspan(*default, color="C2", alpha=0.18, linewidth=0, label=label)]
    marks = found["edge"].marks if "edge" in found else {}
    signs = [
        sign(marks[name], marker, label, color=colour, markersize=8, zorder=4)
        for name, (label, marker, colour) in SIGNS.items()
        if name in marks
    ]
    dots = [
        sign(suggestion.max_lr, ".", name, color=INK, markersize=7, zorder=3)
        for name, suggestion in found.items()
        if suggestion is not default
    ]
    return [curves, signs, dots]


def _legend_below(ax: "Axes", columns: list[list[Any]]) -> None:
    """Draws a legend below the axes, where it covers nothing, one column for each list."""
    rows = max(map(len, columns))
    nothing = plt.Line2D([], [], linestyle="none", label=" ")
    handles = [h for column in columns for h in column + [nothing] * (rows - len(column))]
    below = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)  # Inches: the axis's labels.
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + below,
        ncols=len(columns),
        fontsize=9,
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

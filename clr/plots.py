"""Figures. Each takes `ax=None`, draws into those Axes or new ones, and returns them."""

import io
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

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
    """Draws a range test's loss over the rate, raw (faint) and smoothed, with its suggestions.

    A dot marks each method's `max_lr`. A band from `base_lr` to `max_lr` marks the default method's
    suggestion. A method that finds no answer in the curve gets no mark. The first ten steps and the
    last point are left out.

    Args:
        result: A `RangeTest`.
        ax: Axes to draw into. Defaults to new ones.
    """
    ax = _axes(ax)
    lrs, losses = np.array(result.lrs)[result.window], np.array(result.losses)[result.window]
    curve = result.smoothed[result.window]
    ax.plot(lrs, losses, "C0", alpha=0.3, label="batch")
    ax.plot(lrs, curve, "C0", label="smoothed")
    for colour, (method, found) in enumerate(result.suggestions().items(), start=1):
        label = f"{method}: {found.base_lr:.1e} to {found.max_lr:.1e}"
        height = np.interp(found.max_lr, lrs, curve)
        ax.plot(found.max_lr, height, "o", color=f"C{colour}", label=label)
        if method == result.default_method:
            ax.axvspan(*found, color=f"C{colour}", alpha=0.12)
    if len(curve):
        # Not to the raw curve's top: one batch of a diverging net would flatten all the rest.
        ax.set_ylim(top=curve.max() + (0.1 * np.ptp(curve) or 1.0))
        if curve.min() >= 0:
            ax.set_ylim(bottom=max(0, ax.get_ylim()[0]))  # The margin would go below.
    ax.set(
        xlabel="learning rate",
        ylabel="validation loss" if result.config["validation_every"] else "loss",
        xscale="log" if result.config["schedule"] == "exponential" else "linear",
    )
    ax.legend()
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def png(ax: "Axes") -> bytes:
    """Returns the figure that `ax` belongs to as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure: Any = ax.figure  # Typed as if it could be a subfigure.
    figure.savefig(buffer, format="png")
    return buffer.getvalue()

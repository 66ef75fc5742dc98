"""Draws the pictures that are committed, from the code that they illustrate.

In `book/_static`: `waves.svg` is the landing page's, `card.png` is what a link to the book shows
elsewhere, and `own_model.svg` is the README's, drawn by running its own example.
"""

import io
import re
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from clr import Run, plots, recorded
from clr.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
SHOWN = "cifar10/triangular-seed-42"  # The recorded run of `waves.svg` and `card.png`.
# The curves are drawn once, from left to right, for readers who don't mind motion.
MOTION = """<style>
@media (prefers-reduced-motion: no-preference) {
  g[id^="curve"] { animation: draw 1.5s linear; }
}
@keyframes draw { from { clip-path: inset(0 100% 0 0); } to { clip-path: inset(0); } }
</style>
"""


def waves() -> None:
    """Draws a recorded training: the rate of every iteration, and the loss of every epoch."""
    run = recorded(SHOWN)[SHOWN]
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(5, 3.2), sharex=True, layout="constrained", height_ratios=(2, 3)
    )
    rate_and_loss(run, upper, lower)
    upper.set_ylabel("rate")
    upper.set_yticks([0, run.experiment.max_lr], ["low", "high"])
    lower.locator_params(nbins=4)
    lower.set_ylabel("loss")
    lower.set_xlabel("epoch")
    lower.legend()
    for number, line in enumerate([*upper.lines, *lower.lines]):
        line.set_gid(f"curve-{number}")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    drawn = buffer.getvalue().replace("<defs>", MOTION + "<defs>", 1)
    write_atomically(STATIC / "waves.svg", drawn.encode())
    print("drew book/_static/waves.svg")


def card() -> None:
    """Draws the card that a link to the book shows elsewhere: 1200 by 630 pixels."""
    figure = plt.figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    figure.text(0.06, 0.83, "Cyclical learning rates", fontsize=50, color="#222222", weight="bold")
    figure.text(0.06, 0.72, "a book and a library for Keras 3", fontsize=28, color="#555555")
    upper = figure.add_axes((0.06, 0.36, 0.88, 0.27))
    lower = figure.add_axes((0.06, 0.07, 0.88, 0.25), sharex=upper)
    rate_and_loss(recorded(SHOWN)[SHOWN], upper, lower)
    for ax, name in ((upper, "learning rate"), (lower, "loss")):
        ax.set_axis_off()
        ax.text(1, 1, name, transform=ax.transAxes, ha="right", va="top", fontsize=20)
        for line in ax.lines:
            line.set_linewidth(4)
    figure.savefig(STATIC / "card.png", facecolor="white", metadata={"Software": None})
    plt.close(figure)
    print("drew book/_static/card.png")


def rate_and_loss(run: Run, upper: plt.Axes, lower: plt.Axes) -> None:
    """Draws the rate into one panel and the loss into another, over the same epochs."""
    rates = run.rates()
    colour = plots.COLOURS[run.experiment.clr_method]
    upper.plot(np.arange(len(rates)) / run.iterations_per_epoch, rates, colour, linewidth=2.4)
    epochs = np.arange(1, len(run.history["loss"]) + 1)
    lower.plot(epochs, run.history["val_loss"], "C1", linewidth=2.4, label="on test images")
    lower.plot(epochs, run.history["loss"], "C1:", linewidth=2.4, label="in training")


def own_model() -> None:
    """Runs the README's example and saves what it draws."""
    keras.utils.set_random_seed(0)
    with TemporaryDirectory() as folder, chdir(folder):  # It saves a picture of its own.
        exec(example((ROOT / "README.md").read_text(encoding="utf-8")), {})
    figure = plt.gcf()
    figure.set_size_inches(5, 3.4)
    plt.gca().minorticks_off()
    save(figure, "own_model.svg")


def example(readme: str) -> str:
    """Returns the README's one block of Python."""
    (block,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    return block


def save(figure: plt.Figure, name: str) -> None:
    """Writes a figure without a date and with fixed ids: drawn again, it is the same file."""
    figure.savefig(STATIC / name, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    print(f"drew book/_static/{name}")


def main() -> None:
    """Draws them all."""
    matplotlib.use("agg")
    plots.use_style()
    plt.rcParams["svg.fonttype"] = "none"  # Letters as paths would be two thirds of a file.
    waves()
    card()
    own_model()


if __name__ == "__main__":
    main()

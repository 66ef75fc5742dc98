"""Draws the pictures that are committed, from the code that they illustrate.

`book/_static/policies.svg` is the landing page's, `book/_static/own_model.svg` the README's: the
second comes from running the README's own example.
"""

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from clr import CyclicPolicy, plots

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"


def policies() -> None:
    """Draws the three policies of the tutorial."""
    # Few words and large ones: the picture is read on telephones too.
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.2), sharey=True, layout="constrained")
    for number, (mode, ax) in enumerate(
        zip(("triangular", "triangular2", "exp_range"), panels, strict=True)
    ):
        policy = CyclicPolicy(base_lr=0.001, max_lr=0.006, step_size=2000, mode=mode, gamma=0.9999)
        plots.policy(policy, ax=ax, color=f"C{number}", linewidth=2.4)
        ax.set(xlabel="", ylabel="", xticks=range(0, 16001, 4000), xticklabels=[])
        ax.set_title(mode, fontsize=14)
        ax.set_yticks([policy.base_lr, policy.max_lr], ["base_lr", "max_lr"], fontsize=13)
    save(figure, "policies.svg")


def own_model() -> None:
    """Runs the README's example and saves what it draws."""
    exec(example((ROOT / "README.md").read_text(encoding="utf-8")), {})
    figure = plt.gcf()
    figure.set_size_inches(7.2, 2.8)
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
    """Draws both."""
    matplotlib.use("agg")
    plots.use_style()
    plt.rcParams["svg.hashsalt"] = "clr"
    policies()
    own_model()


if __name__ == "__main__":
    main()

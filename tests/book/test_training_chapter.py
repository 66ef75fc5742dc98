"""That "Run all" of chapter 7 trains at full size once, and says so before it does."""

from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

import clr

ROOT = Path(__file__).resolve().parents[2]
CELLS = nbformat.read(ROOT / "notebooks" / "07_train_cifar10.ipynb", as_version=4).cells
ON_DIGITS = ("x_train, y_train = ", "rates = cycle.history")  # Trained with Keras alone.


def code():
    """The chapter's code without Colab's cell and the small network in its first half."""
    cells = [c for c in CELLS if c.cell_type == "code"]
    first, last = (next(i for i, c in enumerate(cells) if part in c.source) for part in ON_DIGITS)
    kept = cells[:first] + cells[last + 1 :]
    return [c.source for c in kept if "colab-setup" not in c.metadata.get("tags", [])]


def test_the_full_profile_is_trained_once_and_said_before(monkeypatch):
    full, trained, said = clr.Experiment.from_profile("full"), [], []
    stand_in = clr.recorded("cifar10/triangular-seed-42")["cifar10/triangular-seed-42"]

    def train(experiment, *_, **__):
        if experiment == full and full not in trained:
            assert f"trains for {full.num_epochs} epochs" in "".join(said)
        trained.append(experiment)
        return stand_in

    monkeypatch.setattr("clr.train", train)
    monkeypatch.setattr("clr.prepare", lambda profile: None)
    monkeypatch.setattr("clr.datasets.load", lambda name: None)
    monkeypatch.setattr("clr.plots.use_style", lambda: None)
    monkeypatch.setattr("IPython.display.display", lambda *shown: said.extend(shown))
    monkeypatch.setattr("IPython.display.Markdown", str)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names: dict = {}
    for source in code():
        exec(source.replace('PROFILE = "auto"', 'PROFILE = "full"'), names)
    assert trained.count(full) == 1
    assert [e for e in trained if e.num_epochs >= full.num_epochs] == [full]

"""A chapter's cells, executed in the test's own process, and what they show."""

from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]


def cells_of(name: str) -> list[Any]:
    """Returns a chapter's cells, of code and of text."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells


def execute(cells: list[Any], monkeypatch: Any) -> tuple[str, dict[str, Any], list[str]]:
    """Returns what the code shows as text, its names, and its figures' titles."""
    import IPython.display
    import matplotlib.pyplot as plt

    shown: list[str] = []
    titles: list[str] = []
    names: dict[str, Any] = {}

    def drawn() -> None:
        titles.extend(ax.get_title() for ax in plt.gcf().axes)
        plt.close()

    monkeypatch.setattr("clr.plots.use_style", lambda: None)
    monkeypatch.setattr("clr.prepare", lambda profile: None)
    monkeypatch.setattr(plt, "show", drawn)
    monkeypatch.setattr(IPython.display, "display", shown.append)
    monkeypatch.setattr(IPython.display, "Markdown", str)
    for cell in cells:
        if cell.cell_type == "code" and "colab-setup" not in cell.metadata.get("tags", []):
            exec(cell.source, names)
    return "\n".join(shown), names, titles

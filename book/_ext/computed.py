"""Sphinx extension: values that pages of prose show, computed when the site is made.

A page says `{{ name }}` and gets what stands here under that name: from the recorded runs and
measurements, and from the chapters as they were just executed.
"""

import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import nbformat

MISSING = "not yet recorded"
COMPARED = {  # On the landing page: the policy in the names of runs, and its name there.
    "recipe": "one-cycle with the book's recipe",
    "one_cycle": "one-cycle",
    "triangular": "triangular",
    "triangular2": "triangular2",
    "auto": "triangular with a range test's bounds",
    "constant": "a constant rate",
}
RECIPES = {"full": "full/recipe", "cifar10": "recipe/all"}  # The recipe's runs, by study.


def cifar10() -> str:
    """Returns the test accuracies on CIFAR-10 at the largest size that was recorded."""
    from clr import recorded
    from clr.findings import spread

    for study, recipe in RECIPES.items():
        by_epochs = defaultdict(list)  # Accuracy and words of each policy, by its epochs.
        for policy, name in COMPARED.items():
            of_policy = recipe if policy == "recipe" else f"{study}/{policy}"
            if runs := list(recorded(f"{of_policy}-seed-*").values()):
                e = runs[0].experiment
                found = [100 * run.test_accuracy for run in runs]
                said = f"{name} {spread(found)}% (n = {len(runs)})"
                by_epochs[f"width {e.width:g}, {e.num_epochs} epochs"].append((fmean(found), said))
        if by_epochs:
            return "; ".join(
                f"{size}: " + ", ".join(said for _, said in sorted(found, reverse=True))
                for size, found in by_epochs.items()
            )
    return MISSING


def status(chapters: Path) -> dict[str, str]:
    """Returns the table of the chapters' executions, and the machines they ran on."""
    rows = ["chapter | cells run | outcome | profile | seconds | finished (UTC)"]
    rows.append(" | ".join(["---"] * 6))
    machines = set()
    for path in sorted(chapters.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        run = [cell for cell in code if cell.execution_count]
        errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
        said = "".join(o.get("text", "") for o in code[-1].outputs).strip()
        # As `clr.made_with` says it, the machine last.
        profile = re.search(r"in the profile '(\w+)'", said)
        machines |= {said.rstrip(".").rsplit(". ", 1)[-1]} if profile else set()
        took = notebook.metadata.get("executed")  # As `tools/execute.py` left it.
        cells = [
            f"{{doc}}`/notebooks/{path.stem}`",
            f"{len(run)}/{len(code)}",
            "an error" if errors else "no error",
            profile[1] if profile else "",
            f"{took['seconds']:.0f}" if took else "",
            took["finished"][:16].replace("T", " ") if took else "",
        ]
        rows.append(" | ".join(cells))
    return {"status": "\n".join(rows), "machines": "; ".join(sorted(machines))}


def compute(app, config):
    """Gives the pages their values."""
    source = Path(app.srcdir)
    values = {"cifar10": cifar10()} | status(source / "notebooks")
    config.myst_substitutions = {**config.myst_substitutions, **values}


def setup(app):
    """Called by Sphinx."""
    app.connect("config-inited", compute)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

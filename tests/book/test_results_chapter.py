"""That chapter 7 says of recorded runs what they say, and reads well with few of them."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from chapters import cells_of, execute

import clr
from clr import Experiment

CELLS = cells_of("07_train_cifar10")
RECORD, FOUND = (clr.records.RUNS / f"cifar10/{p}-seed-42.json" for p in ("triangular", "auto"))
NARROW = {"width": 0.25, "num_epochs": 12, "step_size": 2}


def record(name, accuracies, training=None, loss=None, **settings):
    """Writes a run with these test accuracies, in a study's folder."""
    values = json.loads(RECORD.read_text())
    epochs, cycles = len(accuracies), None
    experiment = Experiment(**NARROW | {"num_epochs": epochs} | settings)
    if experiment.clr_method.startswith("triangular"):
        ends = list(accuracies[2 * experiment.step_size - 1 :: 2 * experiment.step_size])
        cycles = {"accuracy": ends, "ensemble": ends[-1] - 0.01}
    values["experiment"] = asdict(experiment)
    values["iterations_per_epoch"] = experiment.iterations_per_epoch(values["examples"]["train"])
    values["history"] = {
        "accuracy": list(accuracies if training is None else training),
        "val_accuracy": list(accuracies),
        "loss": list(np.linspace(2, 1, epochs)),
        "val_loss": list(np.linspace(2, 1, epochs) if loss is None else loss),
        "learning_rate": [0.01] * epochs,
    }
    values["report"]["accuracy"] = accuracies[-1]
    values["snapshots"] = cycles
    if experiment.max_lr == "auto":
        values["bounds"] = json.loads(FOUND.read_text())["bounds"]
    path = clr.training.records.RUNS / f"{name}-seed-{experiment.seed}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))


def waves(end, height, epochs=12, step_size=2):
    """Accuracies that rise to an end, highest at the end of each cycle."""
    place = np.arange(1, epochs + 1)
    trend = end - 0.1 * np.log(epochs / place)
    return trend + height * (np.cos(np.pi * place / step_size) - 1) / 2


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that runs what the chapter says of records and returns what that shows."""
    monkeypatch.setattr("clr.training.records.RUNS", tmp_path)

    def run():
        first, last, end = (
            next(i for i, cell in enumerate(CELLS) if f"## {heading}\n" in f"{cell.source}\n")
            for heading in ("Train it yourself", "What to do today", "Exercise")
        )
        # Without what trains.
        return execute([*CELLS[:first], *CELLS[last:end]], monkeypatch)[0]

    return run


def verdict(shown, claim):
    """The cells of a claim's row."""
    (row,) = [line for line in shown.splitlines() if line.startswith(f"| {claim}")]
    return [cell.strip() for cell in row.strip("|").split("|")[1:]]


def test_without_records_it_says_so_and_nothing_else(read):
    assert read().startswith("**This copy has no recorded runs.**") and "\n" not in read()


def test_one_seed_settles_nothing(read):
    record("cifar10/triangular", waves(0.75, 0.1))
    record("cifar10/triangular2", waves(0.70, 0.02), clr_method="triangular2")
    record("cifar10/constant", waves(0.74, 0.0), clr_method="constant")
    shown = read()
    assert "**held**" not in shown and "**did not hold**" not in shown
    assert verdict(shown, "1.") == ["not run at that size (75.0% here, n = 1)"]
    assert verdict(shown, "3.")[0].startswith("not settled (+") and "n = 1" in shown
    assert verdict(shown, "6.") == ["not run"]
    assert "`python tools/record.py full` records" in shown and "width 0.25 for 12 epochs" in shown
    assert "Of 9 checks (width 0.25, 12 epochs), none held, none failed, 4 are not settled" in shown
    assert "nan" not in shown and "inf" not in shown


def test_three_seeds_settle_what_their_interval_settles(read):
    for seed, luck in zip((42, 43, 44), (-0.004, 0.0, 0.004), strict=True):
        record("cifar10/triangular", waves(0.75 + luck, 0.1 + luck), seed=seed)
        calm = waves(0.70 + luck, 0.02)
        record("cifar10/triangular2", calm, clr_method="triangular2", seed=seed)
        steady = waves(0.76 + 5 * luck, 0.0)
        record("cifar10/constant", steady, clr_method="constant", seed=seed)
        record("cifar10/auto", waves(0.749 + luck, 0.1), seed=seed)
    shown = read()
    assert verdict(shown, "3.")[0].startswith("**held** (+")
    assert verdict(shown, "4. `triangular2`")[0].startswith("**held** (+")
    assert verdict(shown, "4. `triangular` overfits")[0].startswith("not settled: no overfitting")
    slower = verdict(shown, "5. `triangular` is faster to a given accuracy than a constant")
    assert slower[0].startswith("**did not hold** (-")
    assert verdict(shown, "6.") == ["**held** (-0.1 points, -0.100 to -0.100, n = 3)"]
    assert "3 held, 1 failed, " in shown
    assert "- Held: The test accuracy peaks where the rate is lowest.\n- Held: `triang" in shown
    assert "- Failed: `triangular` is faster to a given accuracy than a constant rate." in shown
    assert "| `triangular` | 12 | 75.0 ± 0.4 | 75.0 ± 0.4 | +0.0 | 3 |" in shown
    assert "0.00 of a cycle" in shown


def test_what_found_bounds_bring_is_said_of_them_alone(read):
    for seed, luck in zip((42, 43, 44), (-0.004, 0.0, 0.005), strict=True):
        record("cifar10/triangular", waves(0.75 + luck, 0.1), seed=seed)
        record("cifar10/one_cycle", waves(0.77 + luck, 0.0), clr_method="one_cycle", seed=seed)
    assert "What do found bounds bring?" not in read()
    auto = {"max_lr": "auto", "min_lr": None}
    for (seed, luck), gain in zip({42: -0.004, 43: 0.0}.items(), (0.05, 0.052), strict=True):
        record("cifar10/auto", waves(0.75 + luck + gain, 0.1), seed=seed, **auto)
    shown = read()
    assert "suggested a `max_lr` of 0.051 to 0.051; the tutorial has 0.01" in shown
    assert "both with `triangular`: not settled (+5.1 points, n = 2). We" in shown
    record("cifar10/auto", waves(0.75 + 0.005 + 0.051, 0.1), seed=44, **auto)
    more = "which is more than any other policy in the table gains."
    assert f"`triangular`: **better** (+5.1 points, +4.9 to +5.3, n = 3), {more}" in read()


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.915, 0.922, 0.918), "**held** (91.8 ± 0.4%, n = 3)"),
        ((0.873, 0.872, 0.874), "**did not hold** (87.3 ± 0.1%, n = 3)"),
        ((0.89, 0.912, 0.90), "not settled (90.1 ± 1.1%, n = 3)"),
        ((0.93,), "not settled (93.0%, n = 1)"),
    ],
)
def test_the_stated_accuracy_is_judged_at_full_size_only(read, ends, said):
    full = {"width": 1.0, "num_epochs": 24, "step_size": 4}
    for seed, end in enumerate(ends):
        high, rising = waves(0.99, 0.0, 24, 4), np.linspace(1, 2, 24)
        record("full/triangular", waves(end, 0.05, 24, 4), high, rising, seed=seed, **full)
        record("full/recipe", waves(0.94, 0.0), clr_method="one_cycle", seed=seed, width=1.0)
    shown = read()
    assert verdict(shown, "1.") == [said]
    assert "it overfits" in shown and "We had no GPU" not in shown
    assert "one-cycle, the book's recipe: 94.0" in shown


def test_the_recipe_is_taken_apart_seed_by_seed(read):
    for seed, luck in zip((42, 43, 44), (-0.02, 0.0, 0.02), strict=True):
        for name, end in {"recipe/all": 0.8, "recipe/no_cutout": 0.79}.items():
            end += luck + 0.001 * (seed == 43) * (name == "recipe/all")
            record(name, waves(end, 0), clr_method="one_cycle", seed=seed)
        record("cifar10/one_cycle", waves(0.7 + luck, 0), clr_method="one_cycle", seed=seed)
    record("cifar10/triangular", waves(0.75, 0.1))
    shown = read()
    (row,) = re.findall(r"\| with the tutorial's `cutout` \|.*", shown)
    assert "**helps** (+1.0 points, +0.9 to +1.2, n = 3)" in row
    (row,) = re.findall(r"\| one-cycle with the tutorial's other settings \|.*", shown)
    assert "**better** (+10.0 points, +9.9 to +10.2, n = 3)" in row
    assert "We put back one of the tutorial's settings at a time" in shown
    assert "the same test images: one-cycle, the book's recipe, seed 44" in shown
    assert "tutorial's `crop`" not in shown  # It has no runs.
    assert re.search(
        r"Not recorded in this copy: the same for `batch_size` and `max_lr`, .*`nesterov`\.", shown
    )


def test_the_whole_recipe_alone_is_compared_with_what_else_was_run(read):
    for seed, luck in zip((42, 43, 44), (-0.02, 0.0, 0.02), strict=True):
        record("recipe/all", waves(0.8 + luck, 0), clr_method="one_cycle", seed=seed)
        record("cifar10/one_cycle", waves(0.7 + luck, 0), clr_method="one_cycle", seed=seed)
        found = {"max_lr": "auto", "min_lr": "auto", "seed": seed}
        record("cifar10/auto", waves(0.81 + luck + 0.001 * (seed == 43), 0), **found)
    record("recipe/no_dropout", waves(0.9, 0), clr_method="one_cycle")  # One seed is no verdict.
    shown = read()
    assert "What does the whole recipe bring?" in shown and "at a time" not in shown
    assert (
        "the same test images: one-cycle, the book's recipe with the tutorial's `dropout`" in shown
    )
    (row,) = re.findall(r"\| `triangular`, bounds from a range test \| 81.*points.*", shown)
    assert "**worse** (-1.0 points, -1.2 to -0.9, n = 3)" in row

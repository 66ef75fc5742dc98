"""That the chapter on averages judges them seed by seed, with none, some or all of the records."""

import json
import re
from dataclasses import asdict

import pytest
from chapters import cells_of, execute

import clr
from clr import Experiment

CELLS = cells_of("10_averaging")
RECORD = clr.records.RUNS / "cifar10" / "triangular-seed-42.json"
NARROW = {"width": 0.25, "num_epochs": 12, "step_size": 2}


def record(name, seed, last, average=None, ensemble=None):
    """Writes a run with such accuracies: of its last network, the average and the ensemble."""
    values = json.loads(RECORD.read_text())
    policy = name.split("/")[1].split("-")[-1]
    values["experiment"] = asdict(Experiment(**NARROW, clr_method=policy, seed=seed))
    values["report"]["accuracy"] = last
    values["snapshots"] = ensemble and {"accuracy": [0.5, 0.6, last], "ensemble": ensemble}
    values["averaged"] = average and {
        "accuracy": average,
        "numbers": [1, 2, 3],
        "last": last + 0.001,
    }
    values["seconds"] = {"train": 100.0, "evaluate": 1.0, "average": 8.0}
    path = clr.training.records.RUNS / f"{name}-seed-{seed}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that runs what the chapter says of records; what it shows, its figures' titles."""
    monkeypatch.setattr("clr.training.records.RUNS", tmp_path)

    def run():
        end = next(i for i, cell in enumerate(CELLS) if "## Exercise" in cell.source)
        demo = re.compile(r"network\(\)|average\.apply")
        cells = [cell for cell in CELLS[:end] if not demo.search(cell.source)]
        shown, _, titles = execute(cells, monkeypatch)
        return shown, titles

    return run


def test_without_records_it_says_so_and_draws_nothing(read):
    shown, titles = read()
    assert shown.startswith("**This copy has no recorded runs.**") and "\n" not in shown
    assert not titles


def test_the_average_is_judged_seed_by_seed_with_its_cost(read):
    for seed, luck in zip((42, 43, 44), (-0.02, 0.0, 0.02), strict=True):
        higher = 0.71 + luck + 0.001 * (seed == 43)
        record("averaged/digits-one_cycle", seed, 0.7 + luck, higher)
        if seed < 44:
            record("averaged/digits-constant", seed, 0.7, 0.6)
            record("averaged/cifar10-triangular", seed, 0.7, 0.6)
    shown, titles = read()
    accuracies, differences = re.findall(r"\| one-cycle \| .*", shown)
    assert accuracies == "| one-cycle | 70.0 ± 2.0 | 70.1 ± 2.0 | 71.0 ± 2.0 | - | 3 |"
    assert "| **pays** (+1.0 points, +0.9 to +1.2, n = 3) | **pays** (+0.9 points" in differences
    (digits,) = re.findall(r"\*\*Does averaging pay on digits\?\*\*.*", shown)
    assert digits.count("it pays with one-cycle; it is not settled with constant rate.") == 2
    assert "The evaluation takes 8.0 s for the average (medians). " in digits
    assert "they take 8% as long as the training run." in digits
    (cifar10,) = re.findall(r"\*\*Does averaging pay on CIFAR-10\?\*\*.*", shown)
    assert "as it is, it is not settled with `triangular`." in cifar10
    assert "This copy has no" not in shown and "nan" not in shown
    assert shown.startswith(
        "**Often.** Against a last network with *new statistics*, averaging pays"
    )
    assert "averaging pays in 1 of 1 comparisons (digits: one-cycle). New" in shown
    assert "as it is, they bring 10% of the gain." in shown
    assert "of the same runs can't be judged yet: no policy has 3 seeds." in shown
    assert titles == [
        "On CIFAR-10, beyond new statistics: too few seeds for a verdict",
        "On digits, beyond new statistics: the average pays\nwith 1 of 1 policies",
    ]


def test_an_average_that_is_worse_is_said_to_cost(read):
    for seed in (42, 43, 44):
        record("averaged/cifar10-triangular", seed, 0.7 + seed / 1e4, 0.6, 0.69)
    shown, titles = read()
    assert "pays in 0 of 1 comparisons and costs accuracy in 1 of 1 comparisons (CIFAR" in shown
    assert titles == [
        "On CIFAR-10, beyond new statistics: the average pays\n"
        "with none of 1 policies, costs accuracy with 1"
    ]
    assert "it costs accuracy with `triangular`." in shown
    assert shown.startswith("**Usually not.** ") and "of the gain" not in shown


def test_the_ensembles_of_other_runs_are_judged_too(read):
    for seed in (42, 43, 44):
        record("cifar10/triangular", seed, 0.7 + seed / 1e4, ensemble=0.65 + seed / 1e4)
    record("cifar10/triangular2", 42, 0.7, ensemble=0.71)
    shown, titles = read()
    assert "**costs accuracy** (-5.0 points, -5.000 to -5.000, n = 3)" in shown
    assert "not settled (+1.0 points, n = 1)" in shown
    assert "worse than the last network alone in 3 of 4 runs" in shown and not titles

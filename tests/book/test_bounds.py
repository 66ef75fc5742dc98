"""That the benchmark of bounds goes on where it was, keeps what was held back, and counts right."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import bounds
import bounds_tasks
import harness
from bounds_tasks import TASKS, Task

TINY = Task(bounds_tasks.wine, bounds_tasks.mlp, "Adam", 32, 20)  # 40 steps.
KEPT = Task(bounds_tasks.iris, bounds_tasks.linear, "SGD", 16, 4, held=True)


@pytest.fixture(scope="module", autouse=True)
def recorded(tmp_path_factory):
    """The record of one seed of a tiny task, from scratch."""
    folder = tmp_path_factory.mktemp("benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.records, "BENCHMARKS", folder)
        patch.setattr(bounds, "TASKS", [TINY, KEPT])
        bounds.main(["--seeds", "1"])
        yield folder


def rows(folder):
    content = json.loads((folder / "bounds" / f"{TINY.name}.json").read_text())
    return {row["contestant"]: row for row in content["rows"]}


def count_trainings(monkeypatch):
    """Has trainings counted in place of made."""
    trained = []
    monkeypatch.setattr(
        bounds.Trainer, "score", lambda self, seed, rates: trained.append(seed) or 50.0
    )
    return trained


def test_a_task_from_scratch_has_all_contestants_and_a_table(recorded):
    found = rows(recorded)
    assert len(found) == 13 + 2 + 5 + 4 * 2
    assert all(len(row["scores"]) == 1 and 0 <= row["scores"][0] <= 100 for row in found.values())
    best = max(found[name]["scores"][0] for name in bounds.CONSTANTS)
    assert best > 90  # It learns,
    assert found["constant at default x 0.001"]["scores"][0] < 70  # and the rate acts.
    table = json.loads((recorded / "bounds.json").read_text())["rows"]
    row = next(row for row in table if row["contestant"] == "edge: CyclicLR")
    assert row["median"] == round(best - found["edge: CyclicLR"]["scores"][0], 2)
    assert {row["part"] for row in table} == {"design"}


def test_what_is_recorded_is_not_trained_again(recorded, monkeypatch):
    before = (recorded / "bounds" / f"{TINY.name}.json").read_text()
    monkeypatch.setattr(bounds, "Trainer", None)
    bounds.main(["--seeds", "1"])
    assert (recorded / "bounds" / f"{TINY.name}.json").read_text() == before


@pytest.fixture(scope="module")
def trainer():
    return bounds.Trainer(TINY)


def test_training_again_gives_the_same_scores(recorded, trainer):
    """Within what the order of sums in threads can change."""
    for name, _, rates in [*bounds.contestants(TINY, trainer.range_test(0))][5:9]:
        trainer.score(1, rates)  # Leaves no trace.
        assert trainer.score(0, rates) == pytest.approx(rows(recorded)[name]["scores"][0], abs=2.5)


def test_each_step_has_its_own_rate_and_each_training_the_first_weights_of_its_seed(trainer):
    def moved(seed, rates):
        trainer.score(seed, rates)
        first = TINY.model(seed).get_weights()
        pairs = zip(trainer.model.get_weights(), first, strict=True)
        return max(abs(weights - before).max() for weights, before in pairs)

    rates = np.zeros(TINY.steps)
    assert moved(0, rates + 0.01) > 0.05
    for seed in (0, 1):
        assert moved(seed, rates) == 0
    rates[-1] = 0.01
    assert moved(0, rates) == pytest.approx(0.01, rel=0.5)  # A step of Adam.


def test_a_reading_that_changed_is_trained_anew_and_nothing_else(recorded, monkeypatch):
    trained = count_trainings(monkeypatch)
    path = recorded / "bounds" / f"{TINY.name}.json"
    before = path.read_text()
    changed = bounds.read(json.loads(before)["curves"][0]).suggestions()
    changed["valley"] = changed["minimum"]
    monkeypatch.setattr("clr.range_test.RangeTest.suggestions", lambda self: changed)
    bounds.main(["--seeds", "1"])
    again = rows(recorded)
    path.write_text(before)
    assert trained == [0, 0]
    assert {name for name, row in again.items() if row != rows(recorded)[name]} == {
        "valley: CyclicLR",
        "valley: OneCycleLR",
    }


def test_a_task_with_another_budget_is_begun_anew(recorded, monkeypatch):
    trained = count_trainings(monkeypatch)
    path = recorded / "bounds" / f"{TINY.name}.json"
    before = path.read_text()
    monkeypatch.setattr(bounds, "TASKS", [replace(TINY, epochs=4)])
    bounds.main(["--seeds", "1"])
    path.write_text(before)
    assert len(trained) >= 20


def test_a_reading_without_an_answer_has_the_score_of_the_default(recorded, monkeypatch):
    trained = count_trainings(monkeypatch)
    path = recorded / "bounds" / f"{TINY.name}.json"
    before = path.read_text()

    def refuse(self):
        raise ValueError

    monkeypatch.setattr("clr.range_test.RangeTest.suggestions", lambda self: {})
    monkeypatch.setattr("clr.range_test.RangeTest.suggest", refuse)
    bounds.main(["--seeds", "1"])
    again = rows(recorded)
    path.write_text(before)
    assert not trained
    assert again["suggest(): linear"] == {
        "contestant": "suggest(): linear",
        "bounds": [None],
        "scores": again[bounds.DEFAULT]["scores"],
    }


def test_held_tasks_are_scored_only_when_asked(recorded, monkeypatch):
    trained = count_trainings(monkeypatch)
    path = recorded / "bounds" / f"{KEPT.name}.json"
    bounds.main(["--seeds", "1", "--tasks", KEPT.name])
    assert not trained and not path.exists()
    bounds.main(["--seeds", "1", "--tasks", KEPT.name, "--held"])
    assert trained and json.loads(path.read_text())["held"] is True
    table = json.loads((recorded / "bounds.json").read_text())["rows"]
    assert {row["part"] for row in table} == {"design", "held"}
    path.unlink()


def test_no_seed_is_begun_when_the_time_is_over(recorded, monkeypatch):
    trained = count_trainings(monkeypatch)
    bounds.main(["--seeds", "3", "--minutes", "0"])
    assert not trained


def test_regrets_are_against_the_best_mean_of_the_constants():
    def record(**scores):
        constants = {name: [10.0, 10.0] for name in bounds.CONSTANTS} | {bounds.DEFAULT: [50, 60]}
        rows = [
            {"contestant": name, "bounds": [[1, 1], None], "scores": values}
            for name, values in (constants | scores).items()
        ]
        curve = {"losses": [0] * 300, "config": {"num_steps": 300}}
        curves = [{**curve, "trials": trials} for trials in ([[0, 9], [0.1, 1], [0.2, 2]], [])]
        return {"rows": rows, "curves": curves, "steps": 600}

    scores = [[70, 60], [30, 40], [55, 56]]
    names = ("edge: linear", "suggest(): linear")
    table = [*bounds.summary([record(**dict.fromkeys(names, s)) for s in scores], "design")]
    row, suggested = ({row["contestant"]: row for row in table}[name] for name in names)
    assert [row[key] for key in ("median", "mean", "worst")] == [-0.5, 3.17, 20]
    assert (row["worse than the default"], row["better"]) == (1, 1)
    assert (row["refused"], row["cost"]) == ("3/6", 0.1)
    assert suggested["cost"] == 0.15  # With two trials of 150 steps, and with none.


def test_schedules_span_the_training():
    steps = 400
    for name, shape in bounds.SHAPES.items():
        rates = np.asarray(shape(0.1, 1.0, steps))
        assert rates.shape == (steps,) and (rates >= 0).all(), name
        assert rates.max() == pytest.approx(0.5 if name == "constant at half" else 1), name
    assert list(np.flatnonzero(bounds.SHAPES["CyclicLR"](0.1, 1.0, steps) == 1)) == [100, 300]
    assert bounds.SHAPES["cosine"](0, 1.0, steps).argmax() in (19, 20)


def test_the_tasks_are_of_every_kind_and_two_thirds_are_to_design_with():
    assert len(TASKS) >= 30
    assert len({task.name for task in TASKS}) == len(TASKS)
    held = [task for task in TASKS if task.held]
    assert len(held) == pytest.approx(len(TASKS) / 3, abs=1)
    for part in (held, [task for task in TASKS if not task.held]):
        names = Counter(name for task in part for name in (task.optimizer, task.net.__name__))
        assert set(bounds_tasks.OPTIMIZERS) <= set(names)
        for nets in ("mlp", "mlp_norm", "linear", "cnn", "residual", "gru", "transformer",
                     "bottleneck", "fine_tuned"):  # fmt: skip
            assert names[nets], nets
        assert {task.metric for task in part} == {"accuracy", "R2"}
        assert any("raw" in task.data.__name__ for task in part)
        assert any(len(task.data().x) < 250 for task in part)  # A small set that overfits.
        assert any(task.data().x.dtype == "int32" for task in part)
        assert {min(64, task.batch) for task in part} == {16, 32, 64}
        steps = [task.steps for task in part]
        assert min(steps) <= 300 and max(steps) >= 3 * min(steps)

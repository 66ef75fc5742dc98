"""That chapter 6 reads the benchmark of rivals right and decides by what its numbers say."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from chapters import cells_of, execute
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import rivals

from clr import records
from clr.files import write_json

CELLS = cells_of("06_which_schedule")
COSINE, CYCLES, ONE = "warm-up + cosine, max_lr", "CyclicLR, triangular", "OneCycleLR"
MUON = "Muon, default rate"
WSD, CALMER = "warm-up, stable, decay, max_lr", "CyclicLR, triangular2"
ALL = [rivals.DEFAULT, MUON, rivals.REFERENCE, rivals.CHARGED, COSINE, WSD, CYCLES, CALMER, ONE]
NOISE = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # Of the seeds, the same for all: paired.


def record(name, seeds=5, **gains):
    """Writes a task's record: each way is so far ahead of the reference, in all situations."""
    rows = []
    for way in ALL:
        last = 70 + gains.get(way, 0.0) + NOISE[:seeds]
        long = last[:, None] + np.zeros(len(rivals.STOPS))
        rows.append({"contestant": way, "short": last.tolist(), "long": long.tolist()})
    values = {
        "about": name,
        "steps": {"short": 300, "long": 1200},
        "stops": rivals.STOPS,
        "rows": rows,
        "tests": [{"AdamW": {"bounds": [0.001, 0.01], "steps": 450}}] * seeds,
        "hardware": {"processor": "a", "cores": 2, "accelerators": []},
        "versions": {},
    }
    write_json(
        records.BENCHMARKS / "rivals" / f"data-net{name}-adamw.json", records.BENCHMARK, values
    )


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that runs the chapter's cells and returns what they show, and their names."""
    monkeypatch.setattr("clr.training.records.BENCHMARKS", tmp_path)
    (tmp_path / "rivals").mkdir()
    return lambda: execute(CELLS, monkeypatch)[:2]


def decisions(shown):
    """The decision table: what to take, by what you have."""
    lines = [line.strip("|").split("|") for line in shown.splitlines() if " budget, " in line]
    lines += [line.strip("|").split("|") for line in shown.splitlines() if "| no known end" in line]
    return {have.strip(): take.strip(" *") for have, take, *_ in (c for c in lines if len(c) == 4)}


def test_too_few_tasks_or_seeds_say_nothing(read):
    for name in "abcde":
        record(name)
    record("f", seeds=4)
    shown, _ = read()
    assert "**This copy has no recorded runs.**" in shown and "|" not in shown


def test_the_default_stays_where_nothing_is_shown_to_be_better(read):
    for name, gain in zip("abcdef", (-3, 4, -2, 3, -1, 2), strict=True):
        record(name, **dict.fromkeys((COSINE, CYCLES, ONE, MUON), gain))
    shown, names = read()
    assert shown.startswith("**Our best guesses** against AdamW")
    assert "with 6 small tasks, a test of significance can show no more than *perhaps*" in shown
    table = decisions(shown)
    assert len(table) == 6
    planned = {take for have, take in table.items() if "budget" in have}
    assert planned == {rivals.REFERENCE}
    # The reference needs the end.
    assert {take for have, take in table.items() if "budget" not in have} == {names["NO_LENGTH"]}
    assert "stop unplanned **is not shown**" in shown
    assert "do not show that cycles win" in shown


def test_enough_tasks_that_show_nothing_say_so(read):
    for name, gain in zip("abcdefghijk", (-3, 4, -2, 3, -1, 2, 1, -4, 5, -5, 0.5), strict=True):
        record(name, **dict.fromkeys((COSINE, CYCLES, ONE, MUON), gain))
    shown, _ = read()
    assert "**Nothing here is shown to be better than AdamW" in shown.split("\n\n")[2]


def test_what_is_shown_to_be_better_is_named_in_its_rows_only(read):
    for name, gain in zip("abcdefghijk", range(1, 12), strict=True):
        record(name, **{ONE: gain, MUON: -gain})
    shown, names = read()
    table = decisions(shown)
    assert "**Shown to be better" in shown.split("\n\n")[2] and f"short budget, *{ONE}*" in shown
    assert {have for have, take in table.items() if take == ONE} == {
        "a short budget, a range test",
        "a long budget, a range test",
    }
    assert names["verdict"](("long", ONE)) == "better"
    assert names["verdict"](("long", MUON)) == "worse"
    assert names["verdict"](("long", COSINE)) == "can't be told"


def test_a_gain_on_all_tasks_is_perhaps_and_taken_though_one_task_widens_its_interval(read):
    for name, gain in zip("abcdef", (1.0, 3.0, 2.0, 4.0, 5.0, 90.0), strict=True):
        record(name, **{COSINE: gain})
    shown, _ = read()
    assert "*Perhaps* better" in shown and "| perhaps better |" in shown
    assert decisions(shown)["a long budget, a range test"] == COSINE


@pytest.mark.parametrize(("gain", "worth"), [(1.0, False), (3.0, True)])
def test_the_first_lines_name_a_gain_that_is_perhaps_there_only_if_it_is_worth_a_change(
    read, gain, worth
):
    for name, more in zip("abcdef", (-0.5, -0.3, -0.1, 0.1, 0.3, 0.5), strict=True):
        record(name, **{CYCLES: gain + more, rivals.CHARGED: 0.5})
    shown, names = read()
    first = shown.split("\n\n")[1]
    for run in names["RUNS"].values():
        (line,) = [line for line in first.splitlines() if line.startswith(f"- **{run}:**")]
        if worth:
            assert line.startswith(f"- **{run}:** *{CYCLES}* after a range test, perhaps +{gain} ±")
            assert f"or +{gain - 0.5} ± " in line and "counting the range test's batches" in line
        else:
            assert "Nothing is worth a change." in line and CYCLES not in line
    take = CYCLES if worth else rivals.REFERENCE
    assert decisions(shown)["a long budget, a range test"] == take


def test_the_page_says_whether_cycles_win_when_stopped_unplanned_as_the_records_do(read):
    for name, gain in zip("abcdef", range(1, 7), strict=True):
        record(name, **{CYCLES: gain, CALMER: gain})
    shown, _ = read()
    assert "tasks show that cycles win when you stop at an unknown time." in shown
    assert "stop unplanned **holds**" in shown


def test_one_table_has_every_schedule_between_the_same_bounds_paired_by_seed(read):
    for name in "abcdef":
        record(name)
    shown, names = read()
    lines = [line for line in shown.splitlines() if line.startswith("| `")]
    runs = names["runs_of"]
    assert len(lines) == len({method for _, method in runs}) == 10
    (row,) = [line.strip("|").split("|") for line in lines if line.startswith("| `one_cycle`")]
    ours, theirs = runs["short", "one_cycle"], runs["short", "triangular"]
    apart = [100 * (ours[seed].test_accuracy - theirs[seed].test_accuracy) for seed in theirs]
    half = stats.t.ppf(0.975, len(apart) - 1) * stats.sem(apart)
    assert row[3].strip().startswith(f"{np.mean(apart):+.1f} ± {half:.1f}: ")
    assert int(row[5]) == len(ours) == len(apart)


def test_every_row_of_the_books_own_table_follows_from_its_records(monkeypatch):
    """By another way: numpy and scipy on the benchmark's own reading of the records."""
    found = sorted((records.BENCHMARKS / "rivals").glob("*.json"))
    stored = [json.loads(path.read_text()) for path in found]
    tasks = [rivals.scores(task) for task in stored if len(task["tests"]) >= 5]
    if len(tasks) < 6:
        pytest.skip("fewer than six tasks are recorded")
    cell = next(c for c in CELLS if "def advice(" in c.source)
    (output,) = [o for o in cell.outputs if "text/markdown" in o.get("data", {})]
    table = decisions(output["data"]["text/markdown"])
    assert len(table) == 6
    for have, take in table.items():
        situation = next((s for s in ("short", "long") if s in have), "unplanned")
        means = {}
        needs_no_length = {
            *(rivals.DEFAULT, MUON, CYCLES, CALMER, rivals.PLATEAU, "constant, max_lr / 2"),
            *(rivals.SCHEDULE_FREE, rivals.AVERAGED),
            *(way + rivals.SNAPSHOT for way in (CYCLES, CALMER)),
        }
        for way in tasks[0][situation]:
            test_free = "default" in way or "ScheduleFree" in way
            if situation == "unplanned" and way not in needs_no_length:
                continue
            if test_free == have.endswith("no range test") and way != rivals.CHARGED:
                means[way] = [
                    np.mean(of[situation][way] - of[situation][rivals.REFERENCE]) for of in tasks
                ]
        above = {way: m for way, m in means.items() if np.mean(m) >= 2}  # Worth a change.
        shown = [way for way, m in above.items() if stats.wilcoxon(m, method="exact").pvalue < 0.05]
        best = max(shown, key=lambda way: np.mean(means[way]), default=rivals.REFERENCE)
        if best == rivals.REFERENCE and situation == "unplanned":
            assert take.startswith("nothing is shown"), have
        else:
            assert take == best, have


def test_a_sure_gain_is_taken_before_a_higher_mean_that_is_not_sure(read):
    gains = zip("abcdef", (1, 3, 2, 4, 5, 6), (-9, 30, -1, 9, -2, 18), strict=True)
    for name, sure, unsure in gains:
        record(name, **{COSINE: sure, ONE: unsure})
    shown, _ = read()
    assert decisions(shown)["a short budget, a range test"] == COSINE
    assert f"| *{ONE}*: +7.5" in shown


def test_the_page_reads_the_stops_as_the_benchmark_does(read):
    for name in "abcdef":
        record(name, **{CYCLES: 1.0})
    _, names = read()
    task = next(iter(names["tasks"].values()))
    for row in task["rows"]:  # Each score is its stop.
        row["long"] = [[float(stop) for stop in rivals.STOPS]]
    ours, theirs = names["in_situations"](task), rivals.scores(task)
    for situation in rivals.SITUATIONS:
        assert list(ours[situation]) == list(theirs[situation])
        for way, values in ours[situation].items():
            assert values == pytest.approx(theirs[situation][way]), (situation, way)


def test_the_schedules_to_copy_are_those_that_were_measured(read):
    _, names = read()
    for name, shape in (("warm_up_cosine", rivals.cosine), ("WarmUpStableDecay", rivals.wsd)):
        schedule = names[name](0.3, 200)
        rates = [float(schedule(step)) for step in range(200)]
        assert rates == pytest.approx(shape(0.3, 200), abs=1e-6), name
    own = names["WarmUpStableDecay"](0.3, 200)
    assert isinstance(own, keras.optimizers.schedules.LearningRateSchedule)
    assert type(own)(**own.get_config()).get_config() == own.get_config()

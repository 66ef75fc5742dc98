"""A fresh Colab runtime, imitated: Colab's versions, one notebook alone, the package from Git."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_book import write_notebook

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from colab_check import (  # noqa: E402
    PINS,
    PYTHONS,
    Colab,
    Result,
    Unreachable,
    alone,
    changes,
    lacking,
    pinned,
    recorded,
    table,
)

QUICKEST = "03_policies"  # `make colab-check` has its turn with all chapters.


@pytest.fixture(scope="module")
def colab():
    with alone(ROOT / "_build" / "colab"):
        try:
            yield Colab(ROOT, ROOT / "_build" / "colab")
        except Unreachable:
            pytest.skip("no environment like Colab's: `make colab-check` makes it, given a network")


def test_a_chapter_runs_on_a_fresh_runtime(colab):
    assert colab.check(ROOT / "notebooks" / f"{QUICKEST}.ipynb").faults == []


def test_what_colab_lacks_is_found_and_so_is_a_missing_installation(colab, tmp_path):
    write_notebook(tmp_path / "lacking.ipynb", source="import myst_nb")
    error, missing = colab.check(tmp_path / "lacking.ipynb").faults
    assert "No module named 'myst_nb'" in error
    assert "the package was not installed" in missing


def test_a_notebook_that_writes_beside_itself_leaves_nothing_to_the_next(colab, tmp_path):
    write_notebook(tmp_path / "tidy.ipynb", "import os; assert os.listdir() == ['tidy.ipynb']")
    (missing,) = colab.check(tmp_path / "tidy.ipynb").faults
    assert "the package was not installed" in missing


def test_a_record_that_was_not_installed_is_named(tmp_path):
    ours = recorded(ROOT)
    assert {"benchmarks/callback.json", "runs/cifar10/triangular-seed-42.json"} <= ours
    assert lacking(ours, ours) == []
    (fault,) = lacking(ours, ours - {"benchmarks/callback.json"})
    assert fault == "records not installed (1): benchmarks/callback.json"
    (fault,) = lacking(ours, recorded(tmp_path))
    assert fault.startswith(f"records not installed ({len(ours)})")


def test_versions_that_a_notebook_changed_are_named():
    before, ours = {"keras==3.13.2", "numpy==2.0.2"}, "keras-clr @ git+https://somewhere@1234"
    assert changes(before, before | {ours}, ours) == []
    (fault,) = changes(before, {"keras==3.15.1", "numpy==2.0.2", ours}, ours)
    assert "keras==3.13.2, keras==3.15.1" in fault
    (fault,) = changes(before, before | {ours, "plotly==5.24.1"}, ours)
    assert "plotly==5.24.1" in fault
    assert len(changes(before, before | {"keras-clr==0.1.0"}, ours)) == 2


def test_a_list_of_colabs_is_read_as_colab_writes_it(tmp_path):
    path = tmp_path / "pip-freeze.txt"
    path.write_text(
        "# Do not modify this file directly\nMarkdown==3.10.2\nml_dtypes==0.5.4\n"
        "google-colab @ file:///colabtools/dist/google_colab-1.0.0.tar.gz\ntorch==2.10.0+cu128\n"
    )
    assert pinned(path) == {"markdown": "3.10.2", "ml-dtypes": "0.5.4", "torch": "2.10.0"}
    assert set(pinned(PINS)) >= {"tensorflow", "keras", "numpy", "matplotlib", "scikit-learn"}


def test_the_table_says_which_failed_and_of_what():
    said = table([Result("03_policies", 12.3, []), Result("13_performance", 4.5, ["no module"])])
    assert "03_policies             12.3  passed" in said
    assert "13_performance           4.5  FAILED" in said
    assert said.endswith("13_performance: no module")


def test_a_notebook_that_is_not_there_is_refused():
    script = [sys.executable, str(ROOT / "tools" / "colab_check.py"), "99_nothing"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such notebook: 99_nothing" in done.stderr


@pytest.mark.parametrize("already_open", [0, 1])
def test_a_weekly_failure_opens_an_issue_unless_one_is_open(tmp_path, already_open):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "colab.yml").read_text())
    *_, step = workflow["jobs"]["check"]["steps"]
    gh = tmp_path / "gh"
    gh.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n[ "$2" != list ] || echo {already_open}\n'
    )
    gh.chmod(0o755)
    environment = os.environ | step["env"] | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", step["run"]], env=environment, check=True)
    asked = [line.split()[1] for line in (tmp_path / "said").read_text().splitlines()]
    assert [word for word in asked if word in ("list", "create")] == (
        ["list"] if already_open else ["list", "create"]
    )


def test_colabs_python_is_the_first_that_is_looked_for():
    assert PYTHONS == ("3.13", "3.12")
    (setup,) = [
        step["with"]["python-version"]
        for step in yaml.safe_load((ROOT / ".github" / "workflows" / "colab.yml").read_text())[
            "jobs"
        ]["check"]["steps"]
        if "python-version" in step.get("with", {})
    ]
    assert setup == PYTHONS[0]


def test_the_workflow_does_what_a_make_target_does():
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "colab.yml").read_text())["jobs"]
    commands = [step.get("run", "").split()[:2] for step in steps["check"]["steps"]]
    assert ["make", "colab-check"] in commands
    assert "\ncolab-check: " in (ROOT / "Makefile").read_text()

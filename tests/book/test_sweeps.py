"""Many executions of one notebook: kept whole, made once, and each failure named."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_core.utils import ensure_event_loop
from nbformat.v4 import new_code_cell, new_notebook

from clr import Run, records
from clr.__main__ import main
from clr.training.sweeps import combinations, sweep, table

pytest.importorskip("papermill")
ROOT = Path(__file__).resolve().parents[2]
RECORD = min((records.RUNS / "budgets").glob("*.json"))

# Stands for a training: a recorded run under other parameters. It tells that it began; `slow` does
# not end before there is a file of that name.
TRAINING = f"""
import json, time
from pathlib import Path
with open("begun", "a") as log:
    log.write(f"{{CLR_METHOD}} {{SEED}}\\n")
while CLR_METHOD == "slow" and not Path("slow").exists():
    time.sleep(0.1)
if CLR_METHOD == "bad":
    raise ValueError("there is no method 'bad'")
run = json.loads(Path({str(RECORD)!r}).read_text())
run["experiment"].update(clr_method="triangular", seed=SEED)
run["report"]["accuracy"] = {{0: 0.9, 1: 0.8}}[SEED]
if CLR_METHOD != "silent":
    Path(OUTPUT).write_text(json.dumps(run))
"""
PARAMETERS = "CLR_METHOD = None\nSEED = None\nOUTPUT = None"


@pytest.fixture
def notebook(tmp_path) -> Path:
    path = tmp_path / "train.ipynb"
    write(path, TRAINING)
    return path


def write(path: Path, code: str) -> None:
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [parameters, new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def begun(notebook: Path) -> list[str]:
    path = notebook.parent / "begun"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def test_each_combination_is_executed_once_and_kept(notebook, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # On one machine it is not needed.
    ensure_event_loop()  # As who has executed a notebook before in this thread has one.
    grid = {"CLR_METHOD": ["triangular", "triangular2"], "SEED": [0, 1]}
    results = sweep(notebook, grid, tmp_path / "out", jobs=2)
    assert [parameters for parameters, _ in results] == combinations(grid)
    assert [run.experiment.seed for _, run in results] == [0, 1, 0, 1]
    names = [f"CLR_METHOD={m},SEED={s}" for m in grid["CLR_METHOD"] for s in grid["SEED"]]
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {
        "notebook.sha256",
        *(f"{name}{ending}" for name in names for ending in (".json", ".ipynb")),
    }
    executed = nbformat.read(tmp_path / "out" / f"{names[1]}.ipynb", as_version=4)
    assert any("SEED = 1" in cell.source for cell in executed.cells)
    assert len(begun(notebook)) == 4

    capsys.readouterr()
    assert sweep(notebook, grid, tmp_path / "out") == results
    assert len(begun(notebook)) == 4
    assert capsys.readouterr().out == "4 of 4 are there already\n"

    rows = table(results).splitlines()
    assert len(rows) == 4 and rows[2] == "triangular | 2 | 85.00% | 7.07% | 80.00% | 90.00%"
    assert table(results, by="SEED").splitlines()[2].startswith("0 | 2 | 90.00% | 0.00%")
    with pytest.raises(ValueError, match="`by` must be one of CLR_METHOD, SEED"):
        table(results, by="WIDTH")


def test_a_sweep_that_was_killed_executes_only_what_is_missing(notebook, tmp_path):
    words = "CLR_METHOD=triangular,slow,triangular2 SEED=1 --jobs 1 --folder out"
    killed = subprocess.Popen(
        [sys.executable, "-m", "clr", "sweep", str(notebook), *words.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    while killed.poll() is None and "slow 1" not in begun(notebook):
        time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = begun(notebook)
    whole = {path.stem for path in (tmp_path / "out").glob("*.json")}
    assert len(whole) == len(before) - 1, "all but the one that it was killed in"

    (tmp_path / "slow").touch()
    line = ["sweep", str(notebook), *words.split()[:-1], str(tmp_path / "out")]
    assert main(line) == 0
    again = begun(notebook)
    assert again == sorted(["slow 1", "slow 1", "triangular 1", "triangular2 1"])
    assert not list((tmp_path / "out").glob(".*")), "rubbish left behind"


def test_a_failed_execution_is_named_and_the_others_are_kept(notebook, tmp_path, capsys):
    grid = {"CLR_METHOD": ["bad", "silent", "triangular"], "SEED": [0]}
    with pytest.raises(RuntimeError, match=r"^2 of 3 executions of train\.ipynb failed") as failed:
        sweep(notebook, grid, tmp_path / "out", jobs=2)
    said = str(failed.value).splitlines()
    assert "CLR_METHOD=bad,SEED=0: ValueError: there is no method 'bad'" in said
    assert "CLR_METHOD=silent,SEED=0: train.ipynb wrote no run" in str(failed.value)
    assert "CLR_METHOD=bad,SEED=0: failed" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").glob("*.json")] == [
        "CLR_METHOD=triangular,SEED=0.json"
    ]
    line = ["sweep", str(notebook), "CLR_METHOD=bad,triangular", "SEED=0"]
    assert main([*line, "--folder", str(tmp_path / "out")]) == 2
    assert "there is no method 'bad'" in capsys.readouterr().err
    assert begun(notebook).count("triangular 0") == 1


def test_a_cluster_is_reached_by_its_address(notebook, tmp_path):
    LocalCluster = pytest.importorskip("distributed").LocalCluster
    grid = {"CLR_METHOD": ["triangular", "bad"], "SEED": [0]}
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tcp://")
        with pytest.raises(RuntimeError, match="SEED=0: ValueError: there is no method 'bad'"):
            sweep(notebook, grid, tmp_path / "out", address=address)
    assert Run.load(tmp_path / "out" / "CLR_METHOD=triangular,SEED=0.json").experiment.seed == 0


def test_a_cluster_without_dask_is_refused_with_the_remedy(notebook, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"on a cluster needs Dask: pip install distributed"):
        sweep(notebook, {"SEED": [0]}, tmp_path / "out", address="tcp://127.0.0.1:1")


def test_a_folder_belongs_to_one_notebook(notebook, tmp_path):
    grid = {"CLR_METHOD": ["triangular"], "SEED": [0]}
    sweep(notebook, grid, tmp_path / "out")
    write(notebook, TRAINING + "# otherwise\n")
    with pytest.raises(ValueError, match=r"`folder` must be a new one.*train\.ipynb has other"):
        sweep(notebook, grid, tmp_path / "out")


@pytest.mark.parametrize(
    "grid",
    [
        {},
        {"SEED": []},
        {"CLR_METHOD": "triangular"},
        {"OUTPUT": ["run.json"]},
        {"SEED": [0, 0]},
        {"SEEDS": [0]},  # Papermill would pass over what is no parameter.
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(notebook, tmp_path, grid):
    with pytest.raises(ValueError, match=r"`grid` must .* Received: "):
        sweep(notebook, grid, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_notebook_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.ipynb"):
        sweep(tmp_path / "nothing.ipynb", {"SEED": [0]}, tmp_path / "out")


def test_the_command_line_refuses_what_is_no_parameter(notebook, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["sweep", str(notebook), "triangular"])
    assert refused.value.code == 2
    assert "NAME=VALUE,... expected, 'triangular' received" in capsys.readouterr().err

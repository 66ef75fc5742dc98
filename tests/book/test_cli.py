"""`python -m clr train`: what it writes, and how it refuses."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import keras
import matplotlib.image
import numpy as np
import pytest

from clr import Experiment, Run
from clr.__main__ import main, parser
from clr.range_test import RangeTest, settings

NO_GPU = pytest.mark.filterwarnings("ignore:The .* profile is made for a GPU")


def test_train_writes_the_run_and_both_plots(tmp_path):
    output = tmp_path / "new" / "output"
    options = "--profile quick --num-epochs 2 --step-size 1 --width 0.1 --batch-size 128"
    done = subprocess.run(
        [sys.executable, "-m", "clr", "train", *options.split(), "--output", output],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in output.iterdir()) == [
        "clr_plot.png",
        "run.json",
        "training_plot.png",
    ]
    for name in ("clr_plot.png", "training_plot.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert len(np.unique(matplotlib.image.imread(output / name))) > 2
    run = Run.load(output / "run.json")
    assert run.experiment == Experiment.from_profile(
        "quick", num_epochs=2, step_size=1, width=0.1, batch_size=128
    )
    assert run.iterations_per_epoch == 1437 // 128 and len(run.history["loss"]) == 2
    assert sum(line.startswith("epoch ") for line in done.stdout.splitlines()) == 2
    assert run.classification_report() in done.stdout
    assert run.provenance() in done.stdout


SMALL = "--profile quick --step-size 1 --width 0.05 --batch-size 8"


def photos(folder):
    """Makes a folder of ten images of noise, of two classes."""
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 256, (40, 50, 3))
            keras.utils.save_img(folder / name / f"{number}.png", pixels)
    return str(folder)


def test_train_takes_a_folder_of_images(tmp_path, capsys):
    paths = ["--dataset", photos(tmp_path / "photos"), "--output", str(tmp_path / "output")]
    assert main(["train", *SMALL.split(), "--num-epochs", "2", *paths]) == 0
    run = Run.load(tmp_path / "output" / "run.json")
    assert run.classes == ["cats", "dogs"] and run.experiment.dataset == "photos"
    assert run.examples == {"train": 8, "test": 2}
    assert "Data: photos (a folder of 10 images" in capsys.readouterr().out


def test_average_prints_last_network_average_and_ensemble_side_by_side(tmp_path, capsys):
    options = f"train {SMALL} --average true --dataset {photos(tmp_path / 'photos')} --num-epochs"
    assert main([*options.split(), "4", "--output", str(tmp_path)]) == 0
    run, said = Run.load(tmp_path / "run.json"), capsys.readouterr().out
    assert run.side_by_side() in said and run.averaged["numbers"] == [1, 2]
    for name in ("last network", "average of 2", "ensemble of 2"):
        assert said.count(name) == 1
    assert main([*options.split(), "3", "--output", str(tmp_path)]) == 2
    assert "`average` needs two cycles" in capsys.readouterr().err


AUTO = f"train {SMALL} --max-lr auto --num-epochs 2"


def test_auto_finds_the_bounds_prints_them_and_trains(tmp_path, capsys):
    assert main([*AUTO.split(), "--output", str(tmp_path)]) == 0
    run = Run.load(tmp_path / "run.json")
    assert run.experiment.max_lr == run.experiment.min_lr == "auto"
    found = run.bounds
    assert 1e-6 < found.min_lr < found.max_lr < 10 and len(found.range_test.losses) > 100
    lines = capsys.readouterr().out.splitlines()
    steps = len(found.range_test.lrs)
    said = f"Range test: {steps} steps; base_lr={found.min_lr:.3g}, max_lr={found.max_lr:.3g}"
    assert lines[0] == said and lines[1].startswith("epoch 1/2")
    assert max(run.rates()) == pytest.approx(found.max_lr)


def test_auto_without_an_answer_exits_2_and_says_what_to_do(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise ValueError("the loss never falls")

    monkeypatch.setattr(RangeTest, "suggest", refuse)
    monkeypatch.setattr(settings, "FEWEST_STEPS", 2)
    options = [*AUTO.split(), "--batch-size", "64", "--output", str(tmp_path)]
    assert main(options) == 2
    out, error = capsys.readouterr()
    assert "Give a number for max_lr" in error and "the loss never falls" in error
    assert out == "" and list(tmp_path.iterdir()) == []


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in fields(Experiment):
        assert f"--{option.name.replace('_', '-')} " in text
        assert option.metadata["help"] in text
        assert f"(full: {getattr(Experiment(), option.name)}" in text
    assert "--profile" in text and "--output" in text


def test_options_left_out_are_left_to_the_profile():
    options = vars(parser().parse_args(["train"]))
    assert options["profile"] == "full"
    assert all(options[option.name] is None for option in fields(Experiment))


def test_options_have_their_fields_types():
    line = "--augment false --jit-compile true --seed 7 --gamma 0.5 --dtype mixed_bfloat16"
    options = vars(parser().parse_args(["train", *line.split()]))
    assert options["augment"] is False and options["jit_compile"] is True
    assert options["seed"] == 7 and options["gamma"] == 0.5
    assert options["dtype"] == "mixed_bfloat16"
    for text, value in {"yes": True, "1": True, "TRUE": True, "no": False, "0": False}.items():
        assert parser().parse_args(["train", "--nesterov", text]).nesterov is value
    assert parser().parse_args(["train", "--jit-compile", "auto"]).jit_compile == "auto"
    assert parser().parse_args(["train", "--max-lr", "auto"]).max_lr == "auto"
    assert parser().parse_args(["train", "--max-lr", "1e-1"]).max_lr == 0.1


@pytest.mark.parametrize(
    "line",
    [
        "--epochs 3",
        "--num-epoch 3",  # No abbreviations: they would change meaning as options are added.
        "--profile slow",
        "--dataset mnist",
        "--clr-method sine",
        "--dtype float64",
        "--step-size 1.5",
        "--max-lr high",
        "--max-lr automatic",
        "--max-lr nan",
        "--max-lr -1",
        "--min-lr auto",  # Without --max-lr auto.
        "--augment maybe",
        "--jit-compile maybe",
        "--num-epochs 0",
        "--min-lr -1",
        "--gamma 1.5",
        "--width nan",
    ],
)
@NO_GPU
def test_bad_option_exits_2_and_is_named(line, capsys, tmp_path):
    output = tmp_path / "output"
    try:
        status = main(["train", "--output", str(output), *line.split()])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    option, value = line.split()
    error = capsys.readouterr().err.splitlines()[-1]
    assert option in error or f"`{option[2:].replace('-', '_')}`" in error
    assert value in error
    assert not output.exists()


@pytest.mark.parametrize(
    "line",
    [
        "--clr-method constant --cycle-momentum true",
        "--clr-method constant --step-size 3",
        "--profile quick --clr-method one_cycle --min-lr 0.001",
        "--profile recipe --step-size 3",
        "--optimizer adam --momentum 0.5",
        "--augment false --crop yes",
    ],
)
@NO_GPU
def test_an_option_without_an_effect_exits_2_and_is_named(line, capsys, tmp_path):
    output = tmp_path / "output"
    assert main(["train", "--output", str(output), *line.split()]) == 2
    name = line.split()[-2].removeprefix("--").replace("-", "_")
    assert f"`{name}` has no effect beside" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SEED=1,2 SEED=3", "SEED 2 times"),
        ("SEED=1,2 --by WIDTH", "--by must be one of SEED. Received: WIDTH"),
    ],
)
def test_a_sweep_that_would_not_be_what_was_asked_for_exits_2(line, said, capsys):
    assert main(["sweep", "nowhere.ipynb", *line.split()]) == 2
    assert said in capsys.readouterr().err


def test_data_that_are_not_cifar10_exit_2_and_are_named(tmp_path, capsys, monkeypatch):
    images, labels = np.zeros((4, 32, 32, 3), "uint8"), np.zeros(4, "uint8")
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    monkeypatch.setenv("CLR_DATA_DIR", str(tmp_path))
    output = tmp_path / "output"
    line = ["train", "--profile", "quick", "--dataset", "cifar10", "--output", str(output)]
    for allowed, said in {
        "": f"{tmp_path / 'cifar10.npz'} is not the official CIFAR-10: it has 4 training",
        "maybe": "CLR_DATA_UNCHECKED='maybe'",
    }.items():
        monkeypatch.setenv("CLR_DATA_UNCHECKED", allowed)
        assert main(line) == 2
        assert said in capsys.readouterr().err and not output.exists()


@pytest.mark.parametrize("below", ["", "folder"])
def test_unwritable_output_is_found_before_training(below, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    output = tmp_path / "file" / below
    assert main(["train", "--profile", "quick", "--output", str(output)]) == 2
    out, error = capsys.readouterr()
    assert str(output) in error and "output folder" in error
    assert "epoch" not in out
    assert (tmp_path / "file").read_text() == "in the way"


def test_no_command_is_an_error(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "command" in capsys.readouterr().err

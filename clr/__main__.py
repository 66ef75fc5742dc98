"""`python -m clr train`: the tutorial's training script. `python -m clr sweep`: many of them."""

import argparse
import ast
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from clr import datasets, plots
from clr.files import check_writable, write_atomically
from clr.training import AUTO, PROFILES, Experiment, prepare, sweep, sweeps, train


def parser() -> argparse.ArgumentParser:
    """Returns the command line of both commands."""
    main = argparse.ArgumentParser("python -m clr", description=__doc__, allow_abbrev=False)
    commands = main.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_sweep(commands)
    return main


def _add_train(commands: Any) -> None:
    """Adds an option for each field of `Experiment`, and where to write."""
    command = commands.add_parser(
        "train",
        help="train MiniGoogLeNet with a cyclical learning rate",
        description="Trains MiniGoogLeNet, prints the test report and writes training_plot.png, "
        "clr_plot.png and run.json. Options left out take the profile's values.",
        allow_abbrev=False,
    )
    command.add_argument(
        "--profile",
        default="full",
        choices=["auto", *PROFILES],
        help="full: the tutorial's experiment (default); recipe: the book's own, in a quarter of "
        "the epochs; quick: minutes on a laptop, no download",
    )
    command.add_argument(
        "--output", type=Path, default=Path("output"), help="folder to write to (default: output)"
    )
    command.add_argument(
        "--run-dir",
        type=Path,
        help="folder for checkpoints: a training that was killed goes on from its last epoch's end "
        "when started again (default: none)",
    )
    full = Experiment()
    for option in fields(Experiment):
        text = f"{option.metadata['help']} (full: {getattr(full, option.name)}"
        for profile, values in PROFILES.items():
            if option.name in values:
                text += f"; {profile}: {values[option.name]}"
        command.add_argument(
            "--" + option.name.replace("_", "-"),
            type=_boolean if isinstance(option.default, bool) else _flag_or_type(option),
            choices=option.metadata["choices"] or None,
            help=text + ")",
        )


def _add_sweep(commands: Any) -> None:
    command = commands.add_parser(
        "sweep",
        help="execute a notebook with many sets of parameters, in parallel",
        description="Executes a notebook for each combination of parameters and prints a table of "
        "the test accuracies. Started again, it executes only what is missing.",
        allow_abbrev=False,
    )
    command.add_argument("notebook", type=Path, help="one that writes its run to OUTPUT")
    command.add_argument(
        "grid", nargs="+", type=_values, metavar="NAME=VALUE,...", help="a parameter's values"
    )
    command.add_argument(
        "--folder", type=Path, default=Path("output"), help="for the results (default: output)"
    )
    command.add_argument("--address", help="a Dask scheduler's (default: none, this machine)")
    command.add_argument("--jobs", type=int, help="executions at once here (default: the cores)")
    command.add_argument("--by", help="the table has a row for each value of it (default: first)")


def main(arguments: list[str] | None = None) -> int:
    """Trains or sweeps as the command line says. Returns the exit status."""
    options = vars(parser().parse_args(arguments))
    return {"train": _train, "sweep": _sweep}[options.pop("command")](options)


def _sweep(options: dict[str, Any]) -> int:
    given, by = options.pop("grid"), options.pop("by")
    grid = dict(given)
    try:
        if twice := [name for name, _ in given if [n for n, _ in given].count(name) > 1]:
            raise ValueError(
                f"a parameter must be given once, with all its values. Received: {twice[0]} "
                f"{len(twice)} times"
            )
        if by is not None and by not in grid:  # Known before anything is executed.
            raise ValueError(f"--by must be one of {', '.join(grid)}. Received: {by}")
        results = sweep(options.pop("notebook"), grid, **options)
        print(f"\n{sweeps.table(results, by or next(iter(grid)))}")
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"python -m clr sweep: {error}", file=sys.stderr)
        return 2
    return 0


def _train(options: dict[str, Any]) -> int:
    output, profile, run_dir = (options.pop(name) for name in ("output", "profile", "run_dir"))
    try:
        prepare(profile)
        experiment = Experiment.from_profile(profile, **options)
        data = datasets.load(experiment.dataset)
        check_writable(output)
        run = train(experiment, data, run_dir=run_dir)
    except (ValueError, OSError) as error:
        print(f"python -m clr train: {error}", file=sys.stderr)
        return 2
    run.save(output / "run.json")
    plots.use_style()
    for name, ax in [("training", plots.training(run)), ("clr", plots.rates(run.rates()))]:
        write_atomically(output / f"{name}_plot.png", plots.png(ax))
    said = (run.classification_report(), run.side_by_side(), run.provenance())
    print("\n" + "\n\n".join([*filter(None, said), f"Written to {output}"]))
    return 0


def _values(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"NAME=VALUE,... expected, {text!r} received")
    return name, [_literal(value) for value in values.split(",")]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # A word.
        return text


BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _boolean(text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise argparse.ArgumentTypeError(
            f"true or false expected (or yes, no, 1, 0), {text!r} received"
        )
    return BOOLEANS[text.lower()]


def _flag_or_type(option: Field) -> Callable[[str], Any]:
    if option.name == "jit_compile":
        return lambda text: text if text == "auto" else _boolean(text)
    if option.name in ("min_lr", "max_lr"):
        return _bound
    if option.name == "weight_decay":
        return float
    return type(option.default)


def _bound(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number or auto expected, {text!r} received") from None


if __name__ == "__main__":
    sys.exit(main())

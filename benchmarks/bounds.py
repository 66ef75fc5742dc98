"""What bounds are worth: small trainings between suggested bounds, against searched rates.

    python benchmarks/bounds.py                       record what is missing, and print the table
    python benchmarks/bounds.py --tasks '*gru*'       some tasks
    python benchmarks/bounds.py --seeds 5             more seeds
    python benchmarks/bounds.py --minutes 30          stop in time; the next call goes on
    python benchmarks/bounds.py --held                the tasks held back too: once, at the end
    python benchmarks/bounds.py --retest              make the range tests anew

Each task of benchmarks/bounds_tasks.py is trained at 13 constant rates, by half decades around
Keras's default rate of its optimizer; between the bounds of `suggest()` and of each reading of the
curve, with `CyclicLR` and `OneCycleLR`; with other schedules up to the `max_lr` of `suggest()`; and
with rivals that need no range test. All trainings of a seed have the same first weights and the
same batches.

The regret of a contestant is the best constant rate's score less its own, in points of accuracy or
of 100 R2, each the mean over the seeds. The best constant is the highest of 13 noisy means on the
test set, so regrets lean high. A reading that finds no answer has the score of Keras's default.

The rates are those of the policies behind the callbacks, looked up by step inside the compiled
step. A momentum stays as it is: one-cycle does not cycle it here. `ScheduleFreeAdamW` is scored on
the weights that Keras leaves after `fit`. On TensorFlow only.

A task has a file in clr/benchmarks/bounds/, written after each seed. A contestant is trained again
only if its bounds changed: with a changed reading, the rest of the record is kept.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache
from typing import Any

import keras
import numpy as np
from bounds_tasks import OPTIMIZERS, TASKS, Task
from harness import write, write_task

from clr import CyclicPolicy, OneCyclePolicy, lr_range_test, recorded_benchmark
from clr.range_test import RangeTest
from clr.range_test.trials import SHARE

Shape = Callable[[float, float, int], Any]  # From base_lr, max_lr and steps to a rate a step.

CONSTANTS = {f"constant at default x {10 ** (k / 2):.4g}": 10 ** (k / 2) for k in range(-6, 7)}
DEFAULT = "constant at default x 1"
FIVE = [f"constant at default x {10.0**k:.4g}" for k in range(-2, 3)]
SUGGESTED = "suggest()"
READINGS = (SUGGESTED, "edge", "valley", "minimum", "steepest")
BEST_OF_FIVE = "best of five constants"
SCHEDULE_FREE = "ScheduleFreeAdamW at its default"
RIVAL = "OneCycleLR to default x 10"
ABOUT = (
    "regret in points of accuracy or of 100 R2 (the best of 13 constant rates less the contestant) "
    "over the tasks; on how many a point worse, or better, than Keras's default rate; how many "
    "range tests gave no answer; cost in searches of 5 rates"
)


def cosine(base_lr: float, max_lr: float, steps: int) -> Any:
    """Returns a warm-up over 5 % of the steps, and half a cosine wave down to 0."""
    warm_up = max(1, steps // 20)
    step = np.arange(steps)
    falling = 0.5 + 0.5 * np.cos(np.pi * np.maximum(0, step - warm_up) / (steps - warm_up))
    return max_lr * np.minimum(1, (step + 1) / warm_up) * falling


SHAPES: dict[str, Shape] = {
    "CyclicLR": lambda base, top, steps: CyclicPolicy(base, top, steps // 4).rate(np.arange(steps)),
    "OneCycleLR": lambda base, top, steps: OneCyclePolicy(top, steps).rate(np.arange(steps)),
    "cosine": cosine,
    "linear": lambda base, top, steps: np.linspace(top, 0, steps, endpoint=False),
    "constant at half": lambda base, top, steps: np.full(steps, top / 2),
}


class RateTable(keras.optimizers.schedules.LearningRateSchedule):
    """Looks the rate up by step, in a variable: other rates need no other compiled step."""

    def __init__(self, steps: int):
        self.rates = keras.Variable(np.zeros(steps, "float32"), trainable=False)

    def __call__(self, step: Any) -> Any:
        # Keras also asks after the last update.
        return keras.ops.take(self.rates, keras.ops.minimum(step, self.rates.shape[0] - 1))


class Trainer:
    """A task's network, compiled once, and trained from the beginning as often as is asked."""

    def __init__(self, task: Task, make: Callable[..., keras.optimizers.Optimizer] | None = None):
        make = make or OPTIMIZERS[task.optimizer]
        self.task, self.data, self.seed = task, task.data(), -1
        self.table = RateTable(task.steps)
        self.optimizers: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
            "scheduled": lambda: make(self.table),
            "tested": make,
            "schedule-free": keras.optimizers.ScheduleFreeAdamW,
        }
        # Three models of the same layers, so that each optimizer has its own compiled step.
        self.model = task.model(seed=0)
        self.models = {
            kind: keras.Model(self.model.inputs, self.model.outputs) for kind in self.optimizers
        }
        accuracy = task.metric == "accuracy"
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if accuracy else "mse"
        for kind, model in self.models.items():
            # The range test sets the rate before each step; the others run in one piece.
            steps = 1 if kind == "tested" else task.steps
            model.compile(
                self.optimizers[kind](), loss, steps_per_execution=steps, jit_compile=False
            )

    def reset(self, kind: str, seed: int) -> keras.Model:
        """Returns a model as it is before training, its optimizer's state included."""
        if seed != self.seed:
            self.seed = seed
            self.first = [value.numpy() for value in self.task.model(seed).variables]
            order = self.task.order(seed)
            self.x, self.y = self.data.x[order], self.data.y[order]
        model = self.models[kind]
        for variable, value in zip(model.variables, self.first, strict=True):
            variable.assign(value)
        fresh = self.optimizers[kind]()
        for optimizer in (model.optimizer, fresh):
            optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, fresh.variables, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(seed)
        return model

    def range_test(self, seed: int) -> dict[str, Any]:
        """Returns what a range test with the defaults found, rounded, for the record."""
        model, batch = self.reset("tested", seed), self.task.batch
        result = lr_range_test(model, self.data.x, self.data.y, batch_size=batch, verbose=0)
        losses = [float(f"{loss:.5g}") for loss in result.losses]
        return {
            "stopped": result.stopped,
            "config": result.config,
            "losses": losses,
            "trials": [[lr, loss and float(f"{loss:.5g}")] for lr, loss in result.trials or []],
        }

    def score(self, seed: int, rates: Any) -> float:
        """Trains with the rates, or schedule-free where they are `None`; returns the test score."""
        model = self.reset("schedule-free" if rates is None else "scheduled", seed)
        if rates is not None:
            self.table.rates.assign(np.asarray(rates, "float32"))
        model.fit(self.x, self.y, batch_size=self.task.batch, shuffle=False, verbose=0)
        return self.task.score(np.array(self.model.predict_on_batch(self.data.x_test)))


def read(curve: dict[str, Any]) -> RangeTest:
    """Returns a recorded range test."""
    config, losses = curve["config"], curve["losses"]
    lrs = np.geomspace(config["start_lr"], config["end_lr"], config["num_steps"])[: len(losses)]
    return RangeTest(
        lrs.tolist(), losses, None, curve["stopped"], True, config, curve["trials"] or None
    )


def contestants(task: Task, curve: dict[str, Any]) -> Iterator[tuple[str, list | None, Any]]:
    """Yields each one's name, its bounds, and its rates, one a step.

    The bounds are `None` where a reading finds none; the rates are `None` where none are set.
    """
    for name, factor in CONSTANTS.items():
        rate = factor * task.default_rate
        yield name, [rate, rate], np.full(task.steps, rate)
    top = 10 * task.default_rate
    yield RIVAL, [0.0, top], SHAPES["OneCycleLR"](0.0, top, task.steps)
    yield SCHEDULE_FREE, [], None
    test = read(curve)
    found = test.suggestions()
    with suppress(ValueError), warnings.catch_warnings(action="ignore"):
        found[SUGGESTED] = test.suggest()
    for reading in READINGS:
        for name, shape in list(SHAPES.items())[: None if reading == SUGGESTED else 2]:
            if reading in found:
                base_lr, max_lr = (float(f"{lr:.4g}") for lr in found[reading])
                rates = shape(base_lr, max_lr, task.steps)
                yield f"{reading}: {name}", [base_lr, max_lr], rates
            else:
                yield f"{reading}: {name}", None, None


def record(task: Task, seeds: int, retest: bool, until: float) -> None:
    """Trains what is missing in a task's record, which is written after each seed.

    Args:
        task: The task.
        seeds: How many seeds the record shall have.
        retest: Whether to make the range tests anew.
        until: The time, of `time.monotonic`, after which no other seed is begun.
    """
    name = f"bounds/{task.name}"
    about = f"{task.name}: {task.metric} after {task.steps} steps of {task.batch}"
    stored = recorded_benchmark(name)
    if stored is None or stored["about"] != about:  # Of another budget: begun anew.
        stored = {"rows": [], "curves": []}
    rows = {row["contestant"]: row for row in stored["rows"]}
    curves = [] if retest else stored["curves"]
    trainer = cache(lambda: Trainer(task))  # Not made where nothing is missing.
    for seed in range(seeds):
        if time.monotonic() > until:
            return
        begin, trained = time.monotonic(), 0
        if seed == len(curves):
            curves.append(trainer().range_test(seed))
        current = []
        for contestant, bounds, rates in contestants(task, curves[seed]):
            current.append(contestant)
            new: dict[str, Any] = {"contestant": contestant, "bounds": [], "scores": []}
            row = rows.setdefault(contestant, new)
            if row["bounds"][seed : seed + 1] == [bounds]:
                continue
            refused = bounds is None
            score = rows[DEFAULT]["scores"][seed] if refused else trainer().score(seed, rates)
            row["bounds"][seed : seed + 1], row["scores"][seed : seed + 1] = [bounds], [score]
            trained += 1
        if trained:
            print(
                f"{task.name}  seed {seed}  {trained} in {time.monotonic() - begin:.0f} s",
                flush=True,
            )
            content = {
                "about": about,
                "steps": task.steps,
                "held": task.held,
                "rows": [rows[contestant] for contestant in current],
                "curves": curves,
            }
            write_task(name, content)


def step_count(curve: dict[str, Any], trials: bool) -> int:
    """Returns how many batches a range test trained on, with its trials or without.

    The batches that trials are judged by, forward only, a fifth as many, are left out.
    """
    made = len(curve["trials"]) - 1 if trials and curve["trials"] else 0
    return len(curve["losses"]) + made * (curve["config"]["num_steps"] // SHARE)


def means(stored: dict[str, Any]) -> dict[str, float]:
    """Returns the mean score of each contestant of a record, and of the best of five constants."""
    seeds = len(stored["curves"])
    found = {row["contestant"]: float(np.mean(row["scores"][:seeds])) for row in stored["rows"]}
    return found | {BEST_OF_FIVE: max(found[name] for name in FIVE)}


def summary(stored: list[dict[str, Any]], part: str) -> Iterator[dict[str, Any]]:
    """Yields a row of the table for each contestant but the searched constants.

    Args:
        stored: The records of some tasks.
        part: What these tasks are, for the rows.
    """
    scores = [means(one) for one in stored]
    best = np.array([max(one[name] for name in CONSTANTS) for one in scores])
    costs = [[step_count(c, r) / (5 * one["steps"]) for one in stored for c in one["curves"]]
             for r in (False, True)]  # fmt: skip
    for name in scores[0]:
        if name in CONSTANTS and name != DEFAULT:
            continue
        own = np.array([one[name] for one in scores])
        regrets, gains = best - own, own - [one[DEFAULT] for one in scores]
        bounds = [b for one in stored for r in one["rows"] if r["contestant"] == name
                  for b in r["bounds"]]  # fmt: skip
        tested = name.split(":")[0] in READINGS
        yield {
            "contestant": name,
            "part": part,
            "tasks": len(stored),
            "median": round(float(np.median(regrets)), 2),
            "mean": round(float(regrets.mean()), 2),
            "p90": round(float(np.percentile(regrets, 90)), 2),
            "worst": round(float(regrets.max()), 2),
            "worse than the default": int((gains < -1).sum()),
            "better": int((gains > 1).sum()),
            "refused": f"{bounds.count(None)}/{len(bounds)}",
            "cost": round(float(np.median(costs[name.startswith(SUGGESTED)])), 2)
            if tested
            else float(name == BEST_OF_FIVE),
        }


def main(arguments: list[str] | None = None) -> None:
    """Records what is missing, and prints and writes the table of all that is recorded.

    Args:
        arguments: Defaults to the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="*", help="their names: a pattern")
    parser.add_argument("--held", action="store_true", help="the tasks held back too")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed later")
    parser.add_argument("--retest", action="store_true", help="make the range tests anew")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes
    for task in TASKS:
        if fnmatch(task.name, options.tasks) and (options.held or not task.held):
            record(task, options.seeds, options.retest, until)
    rows: list[dict[str, Any]] = []
    for part in ("design", "held"):
        of_part = [task.name for task in TASKS if task.held == (part == "held")]
        found = [recorded_benchmark(f"bounds/{name}") for name in of_part]
        stored = [one for one in found if one is not None]
        rows += summary(stored, part) if stored else []
    if rows:
        write("bounds", rows, ABOUT)


if __name__ == "__main__":
    main()

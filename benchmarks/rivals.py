"""Which schedule: small training runs with cyclical rates and with their rivals, side by side.

    python benchmarks/rivals.py                       record what is missing, and print the table
    python benchmarks/rivals.py --tasks '*gru*'       some tasks
    python benchmarks/rivals.py --seeds 10            more seeds
    python benchmarks/rivals.py --minutes 30          stop in time; the next call goes on

Each task is trained with a short budget and with a long one, four times as long. The long run is
scored on the test set at 16 stops too: at each tenth, for a training that ends at a time nobody
planned, and at the end of each cycle. All runs of a seed have the same first weights and the same
batches. A schedule that does not know its length is trained once: its short run is the first
quarter of the long one.

Every schedule goes up to the `max_lr` of one range test a task, seed and optimizer. What the test
costs is charged to `REFERENCE`, which is trained a second time with as many batches more. A test
without an answer leaves a contestant the score of Keras's default rate.

15 % of the training examples are held back from every run. `ReduceLROnPlateau` alone sees them: it
watches their loss, 20 times in a short run, with the factor and the patience of the example in
Keras's documentation. `ScheduleFreeAdamW` is scored on the weights that Keras leaves after `fit`,
and on the averaged ones, which its authors score. `Muon` updates the matrices between the layers;
the last layer, embeddings and everything else go to the AdamW inside it, as its documentation asks.
Of the recipe in chapter 7 the optimizer and the schedule take part: its crops, its cutout and its
label smoothing are for images.
The rates are looked up by step inside the compiled step. On TensorFlow only.

A task has a file in clr/benchmarks/rivals/, written after each seed. A contestant that came
later is trained alone.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Container, Iterator
from fnmatch import fnmatch
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any, NamedTuple

import bounds_tasks
import keras
import numpy as np
import tensorflow as tf
from bounds import RateTable, Trainer, read, step_count
from bounds_tasks import LAST, Data, Task
from harness import write, write_task

from clr import CyclicPolicy, Experiment, OneCyclePolicy, recorded_benchmark
from clr.findings import interval

HELD_BACK = 0.15  # Of the training examples.
LONGER = 4  # The long budget is so many times the short one.
UNITS = 80  # Of the long budget: a tenth and a cycle are whole numbers of them.
TENTHS = [UNITS // 10 * k for k in range(1, 11)]
CYCLE = UNITS // LONGER // 2  # Two cycles in a short run.
CYCLE_ENDS = [CYCLE * k for k in range(1, UNITS // CYCLE + 1)]
STOPS = sorted({*TENTHS, *CYCLE_ENDS})
UNPLANNED = [stop for stop in TENTHS if UNITS // 4 <= stop <= UNITS * 9 // 10]
LONGEST_TEST = 1200  # Batches.

REFERENCE = "AdamW, warm-up + cosine, default rate"
CHARGED = "the same, with the test's batches too"
DEFAULT = "constant, default rate"
SCHEDULE_FREE = "ScheduleFreeAdamW"
RECIPE = "SGD of the CIFAR-10 recipe"
AVERAGED = "ScheduleFreeAdamW, averaged weights"
PLATEAU = "ReduceLROnPlateau"
SNAPSHOT = ", last cycle's end"  # At an unplanned stop, with the weights kept there.
SITUATIONS = ("short", "long", "unplanned")
ABOUT = (
    f"test score (accuracy in per cent, or 100 R2) less that of '{REFERENCE}', paired by seed: the "
    "mean over tasks and half its 95 % interval, by Student's t over the tasks' means"
)


def training_part(load: Callable[[], Data]) -> Callable[[], Data]:
    """Returns a loader that leaves out the training examples that are held back."""

    @wraps(load)
    def part() -> Data:
        data = load()
        kept = round(len(data.x) * (1 - HELD_BACK))
        return data._replace(x=data.x[:kept], y=data.y[:kept])

    return part


def task(
    data: Callable[[], Data], net: Any, optimizer: str, batch: int, epochs: int, **more: Any
) -> Task:
    """Returns the task of the long budget; `epochs` are the short one's."""
    return Task(training_part(data), net, optimizer, batch, LONGER * epochs, **more)


TASKS = [
    task(bounds_tasks.topics, bounds_tasks.bag, "AdamW", 32, 6),
    task(bounds_tasks.shapes, bounds_tasks.cnn, "momentum", 32, 6),
    task(bounds_tasks.table, bounds_tasks.mlp_norm, "AdamW", 128, 12),
    task(bounds_tasks.patches, bounds_tasks.cnn, "momentum", 64, 6),
    task(bounds_tasks.patches_again, bounds_tasks.bottleneck, "AdamW", 128, 14, metric="R2"),
    task(bounds_tasks.digit_images, bounds_tasks.residual, "momentum", 32, 8),
    task(bounds_tasks.waves, bounds_tasks.transformer, "AdamW", 64, 10),
    task(bounds_tasks.friedman, bounds_tasks.deep, "momentum", 64, 16, metric="R2"),
]

OF_RECIPE = Experiment.from_profile("recipe")
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    **bounds_tasks.OPTIMIZERS,
    "ScheduleFreeAdamW": keras.optimizers.ScheduleFreeAdamW,
    RECIPE: lambda *rate: keras.optimizers.SGD(
        *rate,
        momentum=OF_RECIPE.momentum,
        nesterov=OF_RECIPE.nesterov,
        weight_decay=OF_RECIPE.weight_decay,
    ),
    "Muon": lambda *rate: keras.optimizers.Muon(*rate, exclude_layers=[f"(^|/){LAST}/"]),
}


def steps_of(task: Task) -> tuple[int, int]:
    """Returns the batches of the short and of the long budget."""
    long = task.steps // UNITS * UNITS
    return long // LONGER, long


# --- the schedules --------------------------------------------------------------------------------


def cosine(top: float, steps: int) -> np.ndarray:
    """Returns the rates of Keras's `CosineDecay` after a warm-up over 5 % of the steps."""
    warm_up, step = steps // 20, np.arange(steps)
    falling = 0.5 + 0.5 * np.cos(np.pi * (step - warm_up) / (steps - warm_up))
    return top * np.where(step < warm_up, step / warm_up, falling)


def wsd(top: float, steps: int) -> np.ndarray:
    """Returns warm-up, stable, decay: up over 5 % of the steps, down to 0 over the last 20 %."""
    share = np.arange(steps) / steps
    return top * np.minimum(1, np.minimum(share / 0.05, (1 - share) / 0.2))


def constant(rate: float, steps: int) -> np.ndarray:
    """Returns one rate for all steps."""
    return np.full(steps, rate)


class Contestant(NamedTuple):
    """A way to train.

    Attributes:
        name: Its name.
        optimizer: A name of `OPTIMIZERS`.
        rates: The rates of a run of so many steps; `None` where a range test gave no answer.
        planned: Whether the rates depend on the length.
        more: How many batches it has beyond the budget.
    """

    name: str
    optimizer: str
    rates: Callable[[int], np.ndarray] | None
    planned: bool = True
    more: int = 0


def tested_optimizers(task: Task) -> set[str]:
    """Returns for which optimizers a task has a range test."""
    return {task.optimizer, "AdamW", RECIPE}


def contestants(task: Task, tests: dict[str, dict[str, Any]]) -> Iterator[Contestant]:
    """Yields the ways to train a task, but for `AVERAGED`, which is another reading of one.

    Args:
        task: The task.
        tests: Of each of `tested_optimizers`, what `tested` returns.
    """
    main, half_cycle = task.optimizer, steps_of(task)[1] * CYCLE // UNITS // 2

    def rising_to(test: dict[str, Any], shape: Callable[..., np.ndarray], part: float = 1) -> Any:
        found = test["bounds"]
        return found and (lambda steps: shape(part * found[1], steps))

    def cycle(mode: str) -> Any:
        found = tests[main]["bounds"]
        return found and CyclicPolicy(found[0], found[1], half_cycle, mode=mode).rate

    def fixed(optimizer: str) -> Callable[[int], np.ndarray]:
        rate = float(OPTIMIZERS[optimizer]().learning_rate)
        return lambda steps: constant(rate, steps)

    def decayed(optimizer: str) -> Callable[[int], np.ndarray]:
        rate = float(OPTIMIZERS[optimizer]().learning_rate)
        return lambda steps: cosine(rate, steps)

    ours = tests[main]
    yield Contestant(DEFAULT, main, fixed(main), planned=False)
    yield Contestant("constant, max_lr / 2", main, rising_to(ours, constant, 0.5), planned=False)
    yield Contestant("warm-up + cosine, max_lr", main, rising_to(ours, cosine))
    yield Contestant("warm-up, stable, decay, max_lr", main, rising_to(ours, wsd))
    yield Contestant(PLATEAU, main, rising_to(ours, constant), planned=False)
    yield Contestant(SCHEDULE_FREE, "ScheduleFreeAdamW", fixed("ScheduleFreeAdamW"), planned=False)
    yield Contestant("Muon, default rate", "Muon", fixed("Muon"), planned=False)
    yield Contestant("Muon, warm-up + cosine, default rate", "Muon", decayed("Muon"))
    yield Contestant(REFERENCE, "AdamW", decayed("AdamW"))
    yield Contestant(CHARGED, "AdamW", decayed("AdamW"), more=ours["steps"])
    yield Contestant("AdamW, warm-up + cosine, max_lr", "AdamW", rising_to(tests["AdamW"], cosine))
    for mode in ("triangular", "triangular2"):
        rates = cycle(mode)
        yield Contestant(
            f"CyclicLR, {mode}", main, rates and (lambda n, r=rates: r(np.arange(n))), planned=False
        )

    def one_cycle(top: float, steps: int) -> np.ndarray:
        return OneCyclePolicy(top, steps).rate(np.arange(steps))

    yield Contestant("OneCycleLR", main, rising_to(ours, one_cycle))
    ten = 10 * task.default_rate
    yield Contestant("OneCycleLR, ten times the default rate", main, lambda n: one_cycle(ten, n))
    yield Contestant(f"OneCycleLR, {RECIPE}", RECIPE, rising_to(tests[RECIPE], one_cycle))


# --- training -------------------------------------------------------------------------------------


class Race:
    """A task's network, trained from the beginning as often as is asked."""

    def __init__(self, task: Task):
        self.task, self.data = task, task.data()
        self.short, self.long = steps_of(task)
        full = task.data.__wrapped__()  # type: ignore[attr-defined]
        kept = len(self.data.x)
        self.held_back = full.x[kept:], full.y[kept:]
        self.model = task.model(seed=0)
        self.table = RateTable(self.long + LONGEST_TEST)
        self.steps: dict[str, tuple[keras.optimizers.Optimizer, Any]] = {}
        accuracy = task.metric == "accuracy"
        self.loss = (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            if accuracy
            else keras.losses.MeanSquaredError()
        )
        self.outputs = tf.function(lambda x: self.model(x, training=False))
        self.seed = -1

    def compiled(self, name: str) -> tuple[keras.optimizers.Optimizer, Any]:
        """Returns an optimizer, and what trains with it on a range of batches."""
        if name not in self.steps:
            optimizer, model = OPTIMIZERS[name](self.table), self.model
            optimizer.build(model.trainable_variables)

            @tf.function  # Without XLA: compiling takes longer than it saves here.
            def run(x: Any, y: Any, order: Any, first: Any, last: Any) -> None:
                weights = model.trainable_variables
                for batch in tf.range(first, last):
                    rows = order[batch]
                    with tf.GradientTape() as tape:
                        loss = self.loss(
                            tf.gather(y, rows), model(tf.gather(x, rows), training=True)
                        )
                    optimizer.apply(tape.gradient(loss, weights), weights)

            self.steps[name] = optimizer, run
        return self.steps[name]

    def order(self, seed: int) -> np.ndarray:
        """Returns the examples of each batch of a seed's longest run."""
        rng, count = np.random.default_rng(seed), len(self.data.x)
        whole = count // self.task.batch
        passes = -(-(self.long + LONGEST_TEST) // whole)
        size = whole * self.task.batch
        rows = np.concatenate([rng.permutation(count)[:size] for _ in range(passes)])
        return rows.reshape(-1, self.task.batch)

    def trained(self, name: str, seed: int, rates: np.ndarray, stops: Any) -> Iterator[int]:
        """Trains from the first weights of a seed, and yields at each stop, a number of batches."""
        if seed != self.seed:
            self.seed = seed
            self.first = [value.numpy() for value in self.task.model(seed).variables]
            self.batches = tf.constant(self.order(seed))
            self.x, self.y = tf.constant(self.data.x), tf.constant(self.data.y)
        for variable, value in zip(self.model.variables, self.first, strict=True):
            variable.assign(value)
        optimizer, run = self.compiled(name)
        fresh = OPTIMIZERS[name](self.table)
        fresh.build(self.model.trainable_variables)
        for variable, value in zip(optimizer.variables, fresh.variables, strict=True):
            variable.assign(value)
        self.set_rates(rates)
        done = 0
        for stop in stops:
            run(self.x, self.y, self.batches, tf.constant(done), tf.constant(stop))
            done = stop
            yield stop

    def set_rates(self, rates: Any) -> None:
        """Sets the rates of all steps; the last one holds on."""
        size = self.table.rates.shape[0]
        self.table.rates.assign(np.pad(rates, (0, size - len(rates)), "edge").astype("float32"))

    def score(self) -> float:
        """Returns the test score of the network as it is."""
        return self.task.score(self.outputs(tf.constant(self.data.x_test)).numpy())

    def averaged_score(self, optimizer: Any) -> float:
        """Returns the test score with the averaged weights of `ScheduleFreeAdamW`."""
        weights, share = self.model.trainable_variables, optimizer.beta_1
        kept = [weight.numpy() for weight in weights]
        for weight, own, fast in zip(weights, kept, optimizer._momentums, strict=True):
            # Keras leaves the weights between the averaged and the fast ones.
            weight.assign((own - (1 - share) * fast.numpy()) / share)
        score = self.score()
        for weight, own in zip(weights, kept, strict=True):
            weight.assign(own)
        return score

    def run(self, one: Contestant, seed: int, steps: int, units: list[int]) -> dict[str, Any]:
        """Returns a contestant's scores at stops in a run of a budget of `steps`.

        Args:
            one: The contestant.
            seed: Of the first weights and the batches.
            steps: The budget.
            units: The stops, in units of the long budget.
        """
        stops = [unit * (self.long // UNITS) + one.more for unit in units]
        rates = one.rates(steps + one.more)  # type: ignore[misc]
        if one.name == PLATEAU:
            return {one.name: self.plateau(one, seed, rates, stops)}
        found: dict[str, list[float]] = {one.name: []}
        for _ in self.trained(one.optimizer, seed, rates, stops):
            found[one.name].append(self.score())
            if one.name == SCHEDULE_FREE:
                optimizer, _ = self.compiled(one.optimizer)
                found.setdefault(AVERAGED, []).append(self.averaged_score(optimizer))
        return found

    def plateau(self, one: Contestant, seed: int, rates: Any, stops: list[int]) -> list[float]:
        """Returns the scores of `ReduceLROnPlateau`, which sets the rate 80 times a long run."""
        watched = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=float(rates[0])))
        callback = keras.callbacks.ReduceLROnPlateau(factor=0.2, patience=5)
        callback.set_model(watched)
        callback.on_train_begin()
        x, y = (tf.constant(part) for part in self.held_back)
        unit, scores = self.long // UNITS, []
        checks = range(unit, self.long + 1, unit)
        for check, stop in enumerate(self.trained(one.optimizer, seed, rates, checks)):
            loss = float(self.loss(y, self.outputs(x)))
            callback.on_epoch_end(check, {"val_loss": loss})
            self.set_rates(constant(watched.optimizer.learning_rate, 1))
            if stop in stops:
                scores.append(self.score())
        return scores


def tested(trainer: Trainer, seed: int) -> dict[str, Any]:
    """Returns what one range test suggests, rounded, and how many batches it trained on."""
    curve = trainer.range_test(seed)
    try:
        with warnings.catch_warnings(action="ignore"):
            suggestion = read(curve).suggest()
        found = [float(f"{lr:.4g}") for lr in suggestion]
    except ValueError:
        found = None
    return {"bounds": found, "steps": step_count(curve, trials=True)}


def scores_of(
    race: Race, tests: dict[str, Any], seed: int, done: Container[str] = ()
) -> Iterator[tuple[str, list, float]]:
    """Yields each contestant's name, its scores at the stops of the long run, and its short score.

    What differs in name only is trained once. Without bounds, the scores are those of `DEFAULT`,
    the first contestant, which is therefore trained whatever is done.
    """
    known: dict[Any, list[tuple[str, list[float], float]]] = {}
    quarter = UNITS // LONGER
    for one in contestants(race.task, tests):
        if one.name in done and one.name != DEFAULT:
            continue
        key: Any = DEFAULT
        if one.rates is not None and one.name != DEFAULT:
            key = one.optimizer, one.rates(race.long).tobytes(), one.more, one.name == PLATEAU
        if key not in known:
            long = race.run(one, seed, race.long, STOPS)
            short = {name: scores[STOPS.index(quarter)] for name, scores in long.items()}
            if one.planned:
                short = {
                    n: scores[0] for n, scores in race.run(one, seed, race.short, [quarter]).items()
                }
            known[key] = [(name, long[name], short[name]) for name in long]
        (_, stops, end), *others = known[key]
        yield one.name, stops, end
        yield from others


def record(task: Task, seeds: int, until: float) -> None:
    """Trains what is missing in a task's record, which is written after each seed.

    Args:
        task: The task.
        seeds: How many seeds the record shall have.
        until: The time, of `time.monotonic`, after which no other seed is begun.
    """
    name, (short, long) = f"rivals/{task.name}", steps_of(task)
    about = f"{task.name}: {task.metric} after {short} and {long} steps of {task.batch}"
    stored = recorded_benchmark(name)
    if stored is None or stored["about"] != about:  # Of another budget: begun anew.
        stored = {"rows": [], "tests": []}
    rows = {row["contestant"]: row for row in stored["rows"]}
    tests = stored["tests"]
    race = cache(lambda: Race(task))  # Not made where nothing is missing.
    trainer = cache(lambda optimizer: Trainer(task, OPTIMIZERS[optimizer]))
    for seed in range(seeds):
        if seed == len(tests):
            tests.append({})
        done = {contestant for contestant, row in rows.items() if len(row["short"]) > seed}
        untested = sorted(tested_optimizers(task) - tests[seed].keys())
        if not untested and done.issuperset(one.name for one in contestants(task, tests[seed])):
            continue
        if time.monotonic() > until:
            return
        begin = time.monotonic()
        tests[seed] |= {name: tested(trainer(name), seed) for name in untested}
        test_took = time.monotonic() - begin
        for contestant, long_scores, short_score in scores_of(race(), tests[seed], seed, done):
            if contestant in done:
                continue
            new: dict[str, Any] = {"contestant": contestant, "short": [], "long": []}
            row = rows.setdefault(contestant, new)
            row["short"].append(short_score)
            row["long"].append(long_scores)
        took = time.monotonic() - begin
        print(f"{task.name}  seed {seed}  {took:.0f} s, the tests {test_took:.0f} s", flush=True)
        content = {
            "about": about,
            "steps": {"short": short, "long": long},
            "stops": STOPS,
            "rows": [*rows.values()],
            "tests": tests,
        }
        write_task(name, content)


# --- the table ------------------------------------------------------------------------------------


def at_cycle_ends(long_scores: list[float], units: list[int]) -> list[float]:
    """Returns the scores at the last cycle's end before each stop, or at it."""
    return [long_scores[STOPS.index(unit // CYCLE * CYCLE)] for unit in units]


def scores(stored: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the scores of a task's record by situation and contestant, one a seed."""
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in SITUATIONS}
    stops = [STOPS.index(unit) for unit in UNPLANNED]
    for row in stored["rows"]:
        name, long = row["contestant"], np.array(row["long"])
        found["short"][name] = np.array(row["short"])
        found["long"][name] = long[:, -1]
        found["unplanned"][name] = long[:, stops].mean(axis=1)
        if name.startswith("CyclicLR"):
            kept = [np.mean(at_cycle_ends(list(one), UNPLANNED)) for one in long]
            found["unplanned"][name + SNAPSHOT] = np.array(kept)
    return found


def summary(stored: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields a row for each contestant in each situation.

    Args:
        stored: The tasks' records by name.
    """
    by_task = {name: scores(one) for name, one in stored.items()}
    for situation in SITUATIONS:
        first, *_ = by_task.values()
        for contestant in first[situation]:
            values = np.array(
                [
                    np.mean(of[situation][contestant] - of[situation][REFERENCE])
                    for of in by_task.values()
                ]
            )
            yield {
                "contestant": contestant,
                "situation": situation,
                "mean": round(float(values.mean()), 2),
                "half": round(interval(values)[1], 2) if len(values) > 1 else None,
                "tasks": len(values),
            }


def main(arguments: list[str] | None = None) -> None:
    """Records what is missing, and prints and writes the table of all that is recorded.

    Args:
        arguments: Defaults to the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="*", help="their names: a pattern")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed later")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes
    for one in TASKS:
        if fnmatch(one.name, options.tasks):
            record(one, options.seeds, until)
    found = {one.name: recorded_benchmark(f"rivals/{one.name}") for one in TASKS}
    stored = {name: one for name, one in found.items() if one is not None}
    if stored:
        write("rivals", [*summary(stored)], ABOUT)


if __name__ == "__main__":
    main()

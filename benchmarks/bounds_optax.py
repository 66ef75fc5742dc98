"""Two rivals without tuning on the tasks of benchmarks/bounds.py: optax's Prodigy and D-Adaptation.

    _build/jax/bin/python benchmarks/bounds_optax.py        with Keras on JAX, and optax

Both find the rate while they train, and are taken at optax's defaults. Batches and their order are
those of benchmarks/bounds.py; the first weights are drawn by JAX, so they are others. Regrets are
taken from the constant rates recorded there. Resumable: a task is recorded when its seeds are done.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bounds import CONSTANTS, DEFAULT, means
from bounds_tasks import TASKS, Task
from harness import write

from clr import recorded_benchmark

SEEDS = 3
RIVALS: dict[str, Callable[[], Any]] = {
    "optax's prodigy": optax.contrib.prodigy,
    "optax's dadapt_adamw": optax.contrib.dadapt_adamw,
}


def scores(task: Task, rival: str) -> list[float]:
    """Returns a test score for each seed, as benchmarks/bounds.py has it."""
    data, model, optimizer = task.data(), task.model(seed=0), RIVALS[rival]()
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)

    def loss(weights: Any, others: Any, rows: Any) -> tuple[Any, Any]:
        said, others = model.stateless_call(weights, others, x[rows], training=True)
        if task.metric == "accuracy":
            each = optax.softmax_cross_entropy_with_integer_labels(said, y[rows])
        else:
            each = (said - y[rows]) ** 2
        return each.mean(), others

    def step(state: Any, rows: Any) -> tuple[Any, None]:
        weights, others, memory = state
        gradients, others = jax.grad(loss, has_aux=True)(weights, others, rows)
        updates, memory = optimizer.update(gradients, memory, weights)
        return (optax.apply_updates(weights, updates), others, memory), None

    train = jax.jit(lambda state, order: jax.lax.scan(step, state, order)[0])
    return [score(task, model, train, optimizer, seed) for seed in range(SEEDS)]


def score(task: Task, model: Any, train: Any, optimizer: Any, seed: int) -> float:
    """Trains from a seed's first weights, and returns the test score."""
    fresh = task.model(seed)
    weights = [variable.value for variable in fresh.trainable_variables]
    others = [variable.value for variable in fresh.non_trainable_variables]
    order = task.order(seed).reshape(task.steps, task.batch)
    weights, others, _ = train((weights, others, optimizer.init(weights)), order)
    return task.score(np.asarray(model.stateless_call(weights, others, task.data().x_test)[0]))


def main() -> None:
    """Records what is missing, and prints and writes the table."""
    stored = recorded_benchmark("bounds_optax") or {"rows": []}
    rows = {(row["contestant"], row["task"]): row for row in stored["rows"]}
    for task in TASKS:
        recorded = recorded_benchmark(f"bounds/{task.name}")
        if recorded is None or (list(RIVALS)[-1], task.name) in rows:
            continue
        constants = means(recorded)
        best = max(constants[name] for name in CONSTANTS)
        for rival in RIVALS:
            found = scores(task, rival)
            rows[rival, task.name] = {
                "contestant": rival,
                "task": task.name,
                "part": "held" if task.held else "design",
                "scores": found,
                "regret": round(best - float(np.mean(found)), 2),
                "gain": round(float(np.mean(found)) - constants[DEFAULT], 2),
            }
        about = (
            f"test scores of {SEEDS} seeds, the regret of their mean in points (the best of 13 "
            "constant rates less it), and its gain over Keras's default rate"
        )
        write("bounds_optax", list(rows.values()), about)


if __name__ == "__main__":
    main()

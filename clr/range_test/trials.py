"""The second look: a few short trainings around the rate that was read off the curve."""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from clr import optimizers
from clr.callback import OneCycleLR
from clr.progress import Bar, Batches
from clr.range_test.batches import is_arrays
from clr.range_test.undoing import model_kept, random_states_kept

MOST = 6  # Trials, by default; two to four will do where the curve told the truth.
FEWEST_UPDATES = 10  # A trial of fewer tells nothing.
SHARE = 2  # The test is so many times as long as a trial.
HELD = 5  # Batches of a trial to each one that is held back, and at most a fifth of the data.
STEP = math.sqrt(10)  # From one trial's rate to the next: half a decade.


class Split:
    """Batches to train on, the same in each trial, and batches held back to judge by.

    Both are drawn at random from arrays and from a `PyDataset`: their classes may stand in a row.
    Of other data they are the first ones, and are kept in memory.

    Args:
        x: Data that can be passed through more than once.
        y: Targets, if `x` is arrays.
        sample_weight: Weights of the examples, if `x` is arrays.
        batch_size: Examples in a batch, if `x` is arrays.
        steps: Batches to train on.

    Attributes:
        trained: Places of the batches to train on.
        held: Places of the batches held back. Empty where the data are too few.
    """

    def __init__(self, x: Any, y: Any, sample_weight: Any, batch_size: int, steps: int):
        wanted = math.ceil(steps / HELD)
        self.batch: Callable[[Any], Any]
        if is_arrays(x):
            packed = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
            packed = packed if isinstance(packed, tuple) else (packed,)
            arrays = keras.tree.map_structure(np.asarray, packed)

            def examples(rows: np.ndarray) -> Any:
                batch = keras.tree.map_structure(lambda array: array[rows], arrays)
                return keras.tree.lists_to_tuples(batch)  # Data sets hold no lists.

            self.batch = examples
            order = np.random.permutation(len(keras.tree.flatten(arrays)[0]))
            held = min(wanted * batch_size, len(order) // HELD)
            rows = _passes(order[held:], steps * batch_size)
            self.trained = list(rows.reshape(steps, batch_size))
            self.held = [order[i : min(i + batch_size, held)] for i in range(0, held, batch_size)]
            return
        if isinstance(x, keras.utils.PyDataset):
            self.batch = x.__getitem__
            places = np.random.permutation(x.num_batches or steps + wanted)
        else:
            batches = list(itertools.islice(x, steps + wanted))
            self.batch = batches.__getitem__
            places = np.arange(len(batches))
        held = min(wanted, len(places) // HELD)
        self.held = places[:held].tolist()
        self.trained = _passes(places[held:], steps).tolist()

    def to_train_on(self) -> "Places":
        """Returns the batches to train on."""
        return Places(self.batch, self.trained)

    def held_back(self) -> "Places":
        """Returns the batches held back."""
        return Places(self.batch, self.held)


class Places(keras.utils.PyDataset):
    """Batches by their places, for `fit`, which weighs classes of a data set, not of a generator.

    Args:
        batch: From a place to a batch.
        places: The places.
    """

    def __init__(self, batch: Callable[[Any], Any], places: Sequence[Any]):
        super().__init__()
        self.batch, self.places = batch, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        return self.batch(self.places[index])


def _passes(places: np.ndarray, count: int) -> np.ndarray:
    """Returns so many places, each pass through them in another order."""
    passes = [np.random.permutation(places) for _ in range(math.ceil(count / len(places)))]
    return np.concatenate(passes)[:count]


def trials_around(
    centre: float,
    model: keras.Model,
    data: tuple[Any, Any, Any],
    class_weight: Any,
    *,
    batch_size: int | None,
    steps: int,
    most: int | None,
    loss: str = "loss",
    bar: Bar,
) -> list[tuple[float, float | None]] | None:
    """Trains from the beginning with one cycle up to each of a few rates, and puts the model back.

    Args:
        centre: The first rate to try.
        model: A compiled model.
        data: `x`, `y` and `sample_weight`, as for `lr_range_test`, but no generator.
        class_weight: As in `fit`.
        batch_size: Examples in a batch, if `x` is arrays. `None` for Keras's 32.
        steps: Steps of the range test.
        most: How many rates to try at most. `None` for the default.
        loss: The name under which `evaluate` returns the loss.
        bar: Shows the batches of each trial.

    Returns:
        The rates, and the loss on the batches held back, `None` where it is not finite; the first
        without any training, at rate 0. `None` where there are too few steps or data for trials,
        or where a model with its own `train_step` can't be judged by `evaluate`.
    """
    steps //= SHARE
    if (
        not _is_judged(model)
        or steps // optimizers.batches_an_update(model.optimizer) < FEWEST_UPDATES
    ):
        return None
    with random_states_kept(), model_kept(model) as put_back, warnings.catch_warnings(), bar:
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        x, y, sample_weight = data
        split = Split(x() if callable(x) else x, y, sample_weight, batch_size or 32, steps)
        if not split.held:
            return None

        def judged() -> float:
            found = model.evaluate(split.held_back(), return_dict=True, verbose=0)[loss]
            return float(found) if math.isfinite(found) else math.inf

        most = most or MOST
        numbers = itertools.count(1)

        def loss_of(max_lr: float) -> float:
            put_back()
            work = f"trial {next(numbers)} of at most {most}, up to {max_lr:.2g}"
            model.fit(
                split.to_train_on(),
                class_weight=class_weight,
                shuffle=False,
                callbacks=[OneCycleLR(max_lr), Batches(bar, work)],
                verbose=0,
            )
            return judged()

        # Ten times the default is the rate that serves most networks best, if no test is made.
        default = optimizers.default_rate(model.optimizer)
        ceiling = math.inf if default is None else 10 * default
        try:
            losses = {0.0: judged()} | climb(loss_of, centre, ceiling, most)
        except Exception:
            if not optimizers.has_own_step(model):
                raise
            return None  # Its `train_step` takes what its `test_step` does not, or the reverse.
    return [(lr, loss if math.isfinite(loss) else None) for lr, loss in losses.items()]


def _is_judged(model: keras.Model) -> bool:
    """Tells whether `evaluate` returns the loss that the model is trained with."""
    kind = type(model)
    return (
        not optimizers.has_own_step(model)
        or not optimizers.is_keras(kind.test_step)
        or model.loss is not None
    )


def climb(
    loss_of: Callable[[float], float], centre: float, ceiling: float, most: int
) -> dict[float, float]:
    """Walks from a rate by half decades, up or else down, while the loss falls.

    Args:
        loss_of: From a rate to a loss, infinite where training breaks down.
        centre: The first rate.
        ceiling: No other rate is above it.
        most: How many rates to try at most.

    Returns:
        The losses by rate.
    """
    losses = {centre: loss_of(centre)}

    def best(rate: float) -> bool:
        return len(losses) < most and losses[rate] == min(losses.values())

    up = down = centre
    while best(up) and math.isfinite(losses[up]) and up * STEP <= ceiling:
        up *= STEP
        losses[up] = loss_of(up)
    while best(down):
        down /= STEP
        losses[down] = loss_of(down)
    return losses

"""Fine-tuning: which rate, for the head and then for all of a network that was trained before.

A small network learns five classes of CIFAR-10, and then the other five from a few images of each:
first its new head alone, then all of it. Chapter 5 shows the numbers. Every contestant of a seed
starts from the same weights and trains on the same images, in the same order. `CLR_DATA_DIR` says
where CIFAR-10 is; else Keras downloads it. The record is written after each seed, and goes on from
there. Fifteen minutes.
"""

from typing import Any

import keras
import numpy as np
from bounds_tasks import Data
from harness import write
from keras import layers

from clr import OneCycleLR, datasets, lr_range_test, recorded_benchmark

SEEDS, IMAGES, BATCH_SIZE = 10, 20, 16
EPOCHS = {"before": 4, "head": 4}  # Of a stage; all others:
OTHERWISE = 15
OPTIMIZERS: dict[str, Any] = {"Adam": keras.optimizers.Adam}
FACTORS = (0.1, 0.3, 1, 3, 10)  # Times Keras's default: the constant rates.
PART = 0.1  # The body's rate, where it is another than the head's: so many times the head's.


SHAPE = (32, 32, 3)
TESTED = 300  # Images of each class.
MANY = 2500  # Images of each class that the network was trained on before.


class Network:
    """A network that is compiled once, and begins again as often as needed.

    Args:
        optimizer: A function that makes the optimizer, from a rate or from none.
        frozen: Whether only the head trains.
        part: The body's rate, so many times the head's.
    """

    def __init__(self, optimizer: Any, *, frozen: bool = False, part: float = 1):
        body = keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(16, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(32, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(64, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(64, 3, padding="same", activation="relu"),
                layers.Flatten(),
                layers.Dense(64, "relu"),
            ],
            name="body",
            trainable=not frozen,
        )
        head = layers.Dense(5, "softmax", name="head")
        self.model = keras.Sequential([keras.Input(SHAPE), body, head])
        made = optimizer()
        if part != 1:
            rate = float(made.learning_rate)
            chosen = keras.optimizers.OptimizerMap(optimizer(part * rate), {".*head/.*": made})
            made = keras.optimizers.MultiOptimizer(chosen)
        self.model.compile(made, "sparse_categorical_crossentropy", metrics=["accuracy"])
        made.build(self.model.trainable_variables)
        self.begin = [np.array(v) for v in made.variables]

    def start(self, weights: list[np.ndarray], seed: int) -> keras.Model:
        """Returns the model with these weights and a new optimizer's state."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(weights)
        for variable, value in zip(self.model.optimizer.variables, self.begin, strict=True):
            variable.assign(value)
        return self.model

    def test(self, weights: list[np.ndarray], seed: int, data: Data) -> Any:
        """Returns a range test."""
        model = self.start(weights, seed)
        return lr_range_test(model, data.x, data.y, batch_size=_batch(data), verbose=0)

    def trained(
        self,
        weights: list[np.ndarray],
        seed: int,
        data: Data,
        rate: float,
        epochs: int,
        one_cycle: bool = True,
    ) -> float:
        """Returns the test accuracy in per cent, after one cycle or at a constant rate."""
        model, callbacks = self.start(weights, seed), []
        if one_cycle:
            callbacks = [OneCycleLR(rate)]
        else:
            model.optimizer.learning_rate.assign(rate)
        options: dict[str, Any] = {"batch_size": _batch(data), "epochs": epochs, "verbose": 0}
        model.fit(data.x, data.y, callbacks=callbacks, **options)
        return 100 * model.evaluate(data.x_test, data.y_test, verbose=0)[1]


def _batch(data: Data) -> int:
    return BATCH_SIZE if len(data.x) < 1000 else 4 * BATCH_SIZE


def classes(first: int, images: int, seed: int) -> Data:
    """Returns five of the classes, with so many images of each to train on."""
    cifar10 = datasets.cifar10()
    parts = []
    for x, y, count in (
        (cifar10.x_train, cifar10.y_train, images),
        (cifar10.x_test, cifar10.y_test, TESTED),
    ):
        labels = np.argmax(y, axis=1)
        order = np.random.default_rng(seed).permutation(len(x))
        rows = [order[labels[order] == first + k][:count] for k in range(5)]
        parts += [x[np.concatenate(rows)], np.repeat(np.arange(5), count)]
    return Data(*parts)


def with_new_head(weights: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Returns the weights with those of an untrained head."""
    keras.utils.set_random_seed(1000 + seed)
    kernel = keras.initializers.GlorotUniform()(weights[-2].shape)
    return [*weights[:-2], np.array(kernel), 0 * weights[-1]]


Begin = tuple[list[np.ndarray], int, Data]  # The first weights, the seed, the data.


class Study:
    """What one optimizer does, seed by seed.

    Args:
        name: A name of `OPTIMIZERS`.
    """

    def __init__(self, name: str):
        self.name, optimizer = name, OPTIMIZERS[name]
        self.default = float(f"{float(optimizer().learning_rate):.4g}")
        self.head, self.whole = Network(optimizer, frozen=True), Network(optimizer)
        self.apart = Network(optimizer, part=PART)
        recorded = recorded_benchmark("fine_tuning") or {"rows": []}
        self.rows: dict[tuple[str, str], dict[str, Any]] = {
            (row["stage"], row["contestant"]): row
            for row in recorded["rows"]
            if row["optimizer"] == name
        }
        self.seeds = max((len(row["scores"]) for row in self.rows.values()), default=0)

    def note(
        self, stage: str, contestant: str, score: float, rate: float, edge: Any, method: str
    ) -> None:
        """Keeps a seed's score, its rate, and how that was found: by a method, from an edge."""
        about = {"contestant": contestant, "stage": stage, "optimizer": self.name}
        lists: dict[str, Any] = {"scores": [], "rates": [], "edges": [], "methods": []}
        row = self.rows.setdefault((stage, contestant), about | {"default": self.default} | lists)
        row["scores"].append(round(score, 2))
        row["rates"].append(float(f"{rate:.4g}"))
        row["edges"].append(edge and float(f"{edge:.4g}"))
        row["methods"].append(method)

    def constants(self, stage: str, network: Network, begin: Begin) -> None:
        """Trains at each constant rate."""
        for factor in FACTORS:
            rate, name = factor * self.default, f"constant {factor:g}"
            score = network.trained(*begin, rate, EPOCHS.get(stage, OTHERWISE), False)
            self.note(stage, name, score, rate, None, "given")

    def suggested(self, stage: str, network: Network, begin: Begin, body: str = "") -> float:
        """Makes a range test, and trains with one cycle at each of its two rates.

        The rates are that of the trials, which is the default, and the edge. Where the test finds
        no answer it is Keras's default.

        Returns:
            The edge. The network is left as it trained with it.
        """
        result, rate = network.test(*begin), self.default
        edge = result.suggestions().get("edge")
        for contestant, asked in (("suggested", None), ("edge", "edge")):
            try:
                rate, method = result.suggest(asked).max_lr, asked or result.default_method
            except ValueError:
                rate, method = self.default, "none"
            score = network.trained(*begin, rate, EPOCHS.get(stage, OTHERWISE))
            self.note(stage, body + contestant, score, rate, edge and edge.max_lr, method)
        return rate

    def cycle(
        self, stage: str, contestant: str, network: Network, begin: Begin, rate: float
    ) -> None:
        """Trains with one cycle up to a rate that was found elsewhere."""
        score = network.trained(*begin, rate, EPOCHS.get(stage, OTHERWISE))
        self.note(stage, contestant, score, rate, None, "given")

    def measure(self, seed: int) -> None:
        """Trains a network, and fine-tunes it in all ways."""
        early, late = classes(0, MANY, seed), classes(5, IMAGES, seed)
        keras.utils.set_random_seed(seed)
        fresh = Network(OPTIMIZERS[self.name]).model.get_weights()
        self.suggested("before", self.whole, (fresh, seed, early))
        scratch = self.rows["before", "suggested"]["rates"][-1]
        begin = with_new_head(self.whole.model.get_weights(), seed), seed, late
        self.cycle("untrained", "from scratch", self.whole, (fresh, seed, late), scratch)

        self.constants("head", self.head, begin)
        self.suggested("head", self.head, begin)
        ready = self.head.model.get_weights(), seed, late

        self.constants("all", self.whole, ready)
        self.cycle("all", "from scratch", self.whole, ready, scratch)
        edge = self.suggested("all", self.whole, ready)
        self.cycle("all", "body slower, same rate", self.apart, ready, edge)
        self.suggested("all", self.apart, ready, body="body slower, ")


def main() -> None:
    """Trains, prints and writes."""
    about = (
        "test accuracy in per cent on five classes of CIFAR-10, of a network trained on the other "
        f"five: after {EPOCHS['head']} epochs of its head and {OTHERWISE} of all of it, on "
        f"{IMAGES} images of each class, in batches of {BATCH_SIZE}"
    )
    rows: list[dict[str, Any]] = []
    for name in OPTIMIZERS:
        study = Study(name)
        for seed in range(study.seeds, SEEDS):
            study.measure(seed)
            write("fine_tuning", [*rows, *study.rows.values()], about)
        rows += study.rows.values()


if __name__ == "__main__":
    main()

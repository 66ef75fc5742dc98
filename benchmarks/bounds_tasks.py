"""The tasks of benchmarks/bounds.py: small data, small networks, and a table of both.

The data are shipped with scikit-learn, or made here. A task trains in seconds on two cores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from sklearn import datasets

LAST = "last"  # The name of a network's last layer.


class Data(NamedTuple):
    """Examples to train on and to test on. Targets are classes (integers) or numbers."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def outputs(self) -> int:
        """Outputs that a network for these data has: one a class, or one a number."""
        return int(self.y.max()) + 1 if self.y.dtype == "int32" else self.y.shape[1]


def split(x: Any, y: Any, test: float = 0.25) -> Data:
    """Returns shuffled examples, a share of them to test on."""
    x, y = np.asarray(x), np.asarray(y)
    order = np.random.default_rng(0).permutation(len(x))
    x = x[order].astype("int32" if x.dtype.kind == "i" else "float32")
    y = y[order].astype("int32") if y.dtype.kind == "i" else y[order].astype("float32")
    y = y[:, None] if y.dtype == "float32" and y.ndim == 1 else y
    train = round(len(x) * (1 - test))
    return Data(x[:train], y[:train], x[train:], y[train:])


def halved(load: Callable[..., Any]) -> Data:
    """Returns one of scikit-learn's small sets, half of it to test on."""
    x, y = load(return_X_y=True)
    return split(x, y, test=0.5)


def scaled(data: Data) -> Data:
    """Returns the data with inputs, and targets that are numbers, of mean 0 and deviation 1."""
    x, y, x_test, y_test = data
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    if y.dtype == "float32":
        mean, deviation = y.mean(axis=0), y.std(axis=0)
        y, y_test = (y - mean) / deviation, (y_test - mean) / deviation
    return Data(x, y, x_test, y_test)


# --- data that scikit-learn ships -----------------------------------------------------------------


@cache
def digits_raw() -> Data:
    """Handwritten digits: 64 counts from 0 to 16."""
    x, y = datasets.load_digits(return_X_y=True)
    return split(x.astype(float), y)


@cache
def digits() -> Data:
    """The digits, from 0 to 1."""
    x, y, x_test, y_test = digits_raw()
    return Data(x / 16, y, x_test / 16, y_test)


@cache
def digit_images() -> Data:
    """The digits as images of 8 by 8."""
    x, y, x_test, y_test = digits()
    return Data(x.reshape(-1, 8, 8, 1), y, x_test.reshape(-1, 8, 8, 1), y_test)


def some_digits(first: int) -> Data:
    """Returns the images of five of the digits, as classes 0 to 4."""
    x, y, x_test, y_test = digit_images()
    of, of_test = (y >= first) & (y < first + 5), (y_test >= first) & (y_test < first + 5)
    return Data(x[of], y[of] - first, x_test[of_test], y_test[of_test] - first)


@cache
def late_digits() -> Data:
    """The digits 5 to 9, for a network that was trained on 0 to 4."""
    return some_digits(5)


@cache
def digits_again() -> Data:
    """The digits, to be given back through a bottleneck."""
    x, _, x_test, _ = digits()
    return Data(x, x, x_test, x_test)


@cache
def cancer_raw() -> Data:
    """569 tumours: 30 numbers from 0.001 to 4,000."""
    return halved(datasets.load_breast_cancer)


@cache
def cancer() -> Data:
    """The tumours, scaled."""
    return scaled(cancer_raw())


@cache
def wine_raw() -> Data:
    """178 wines: 13 numbers up to 1,700."""
    return halved(datasets.load_wine)


@cache
def wine() -> Data:
    """The wines, scaled."""
    return scaled(wine_raw())


@cache
def iris() -> Data:
    """150 flowers, four numbers each, scaled."""
    return scaled(halved(datasets.load_iris))


@cache
def diabetes() -> Data:
    """442 patients: a regression whose examples are few and noisy, so that networks overfit."""
    return scaled(halved(datasets.load_diabetes))


@cache
def text() -> Data:
    """The character after twelve others, in scikit-learn's descriptions of its data sets."""
    folder = resources.files("sklearn.datasets.descr")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".rst")), key=lambda f: f.name)
    words = " ".join(" ".join(f.read_text(encoding="utf-8").lower().split()) for f in files)
    codes = np.array([ord(c) - 96 if "a" <= c <= "z" else 0 for c in words], "int32")
    windows = np.lib.stride_tricks.sliding_window_view(codes, 13)[::4]
    return split(windows[:, :12], windows[:, 12])


@cache
def patches() -> Data:
    """Patches of 8 by 8 from two photographs: which of them, and from which half?"""
    rng, x, y = np.random.default_rng(0), [], []
    for photo, pixels in enumerate(datasets.load_sample_images().images):
        for _ in range(2000):
            top, left = rng.integers(pixels.shape[0] - 8), rng.integers(pixels.shape[1] - 8)
            x.append(pixels[top : top + 8, left : left + 8] / 255)
            y.append(2 * photo + (top >= pixels.shape[0] // 2))
    return split(x, y)


@cache
def patches_again() -> Data:
    """The patches as rows of numbers, to be given back through a bottleneck."""
    x, _, x_test, _ = patches()
    x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    return scaled(Data(x, x, x_test, x_test))


# --- data made here -------------------------------------------------------------------------------


@cache
def shapes() -> Data:
    """Noisy images of 12 by 12: bars, a diagonal, a cross, a frame, a disc, at any place."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-3:4, -3:4]
    kinds = [
        rows == 0,
        columns == 0,
        rows == columns,
        (rows == 0) | (columns == 0),
        np.maximum(abs(rows), abs(columns)) == 3,
        rows**2 + columns**2 <= 6,
    ]
    y = rng.integers(len(kinds), size=3000)
    x = rng.normal(0, 0.6, (3000, 12, 12, 1))
    for image, kind in zip(x, y, strict=True):
        top, left = rng.integers(6, size=2)
        image[top : top + 7, left : left + 7, 0] += kinds[kind]
    return split(x, y, test=1 / 3)


@cache
def spirals() -> Data:
    """Three spirals in the plane, which no line tells apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=2000)
    radius = rng.uniform(0.1, 1, 2000)
    angle = 7 * radius + y * 2 * np.pi / 3 + rng.normal(0, 0.25, 2000)
    return split(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y, test=0.5)


@cache
def table() -> Data:
    """Twenty numbers, eight of which say the class; a tenth of the labels is wrong."""
    made = datasets.make_classification(
        4000, 20, n_informative=8, n_classes=4, flip_y=0.1, random_state=0
    )
    return split(*made)


@cache
def friedman_raw() -> Data:
    """Friedman's first regression, in units of their own: inputs up to 1,000, targets near 14."""
    x, y = datasets.make_friedman1(2000, noise=1.0, random_state=0)
    return split(x * np.geomspace(1, 1000, 10), y)


@cache
def friedman() -> Data:
    """Friedman's first regression, scaled."""
    return scaled(friedman_raw())


@cache
def topics() -> Data:
    """Sentences of twenty words, half of them from the vocabulary of their topic, one of five."""
    rng = np.random.default_rng(0)
    words = rng.dirichlet(np.full(60, 0.3), size=6)
    y = rng.integers(5, size=3000)
    said = [np.where(rng.random(20) < 0.4, *(rng.choice(60, 20, p=words[t]) for t in (kind, 5)))
            for kind in y]  # fmt: skip
    return split(said, y, test=1 / 3)


@cache
def order() -> Data:
    """Sixteen tokens: does the 0, or the 1, come first?"""
    rng = np.random.default_rng(0)
    x = rng.integers(2, 12, (4000, 16))
    places = np.array([rng.permutation(16)[:2] for _ in x])
    x[np.arange(4000), places[:, 0]], x[np.arange(4000), places[:, 1]] = 0, 1
    return split(x, (places[:, 0] > places[:, 1]).astype(int))


@cache
def waves() -> Data:
    """Twenty samples of a noisy wave: which of five frequencies has it?"""
    rng = np.random.default_rng(0)
    y = rng.integers(5, size=3000)
    phases = rng.uniform(0, 2 * np.pi, (3000, 1))
    x = np.sin(np.arange(20) * (0.3 + 0.25 * y[:, None]) + phases) + rng.normal(0, 0.5, (3000, 20))
    return split(x[:, :, None], y, test=1 / 3)


@cache
def adding() -> Data:
    """Twelve numbers, two of them marked: their sum."""
    rng = np.random.default_rng(0)
    values, marks = rng.uniform(-1, 1, (3000, 12)), np.zeros((3000, 12))
    for row in marks:
        row[rng.permutation(12)[:2]] = 1
    return split(np.stack([values, marks], axis=2), (values * marks).sum(axis=1), test=1 / 3)


# --- networks, up to the last layer ---------------------------------------------------------------


def linear(x: Any) -> Any:
    """No hidden layer: softmax or linear regression."""
    return x


def mlp(x: Any) -> Any:
    """Two hidden layers."""
    return layers.Dense(32, "relu")(layers.Dense(64, "relu")(x))


def mlp_norm(x: Any) -> Any:
    """Two hidden layers with batch normalisation."""
    for units in (64, 32):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
    return x


def deep(x: Any) -> Any:
    """Five hidden layers of tanh, without normalisation."""
    for _ in range(5):
        x = layers.Dense(32, "tanh")(x)
    return x


def bottleneck(x: Any) -> Any:
    """The inside of an autoencoder."""
    for units, activation in ((48, "relu"), (12, None), (48, "relu")):
        x = layers.Dense(units, activation)(x)
    return x


def cnn(x: Any) -> Any:
    """Two convolutions, without normalisation."""
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    return layers.Dense(32, "relu")(layers.Flatten()(x))


def cnn_norm(x: Any) -> Any:
    """Two convolutions with batch normalisation, and dropout."""
    for filters, strides in ((8, 1), (16, 2)):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return layers.Dropout(0.3)(layers.Flatten()(x))


def residual(x: Any) -> Any:
    """Two residual blocks with batch normalisation."""
    x = layers.Conv2D(12, 3, strides=2, padding="same")(x)
    for _ in range(2):
        added = layers.ReLU()(layers.BatchNormalization()(x))
        added = layers.Conv2D(12, 3, padding="same")(added)
        added = layers.ReLU()(layers.BatchNormalization()(added))
        x = layers.Add()([x, layers.Conv2D(12, 3, padding="same")(added)])
    return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))


def embedded(x: Any) -> Any:
    """Returns tokens as vectors, and other sequences as they are."""
    return layers.Embedding(64, 16)(x) if x.dtype == "int32" else x


def bag(x: Any) -> Any:
    """The mean of the words' vectors, and a hidden layer."""
    return layers.Dense(32, "relu")(layers.GlobalAveragePooling1D()(embedded(x)))


def gru(x: Any) -> Any:
    """A recurrent layer."""
    return layers.GRU(24, unroll=True)(embedded(x))


def transformer(x: Any) -> Any:
    """A block of attention with layer normalisation before each part."""
    x = embedded(x)
    places = layers.Embedding(x.shape[1], 16)(keras.ops.arange(x.shape[1]))
    x = layers.Dense(16)(x) + places
    normal = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 8)(normal, normal)
    x = x + layers.Dense(16)(layers.Dense(32, "gelu")(layers.LayerNormalization()(x)))
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


@cache
def trained_body() -> list[np.ndarray]:
    """Returns the weights of `cnn` after training on the digits 0 to 4."""
    data = some_digits(0)
    keras.utils.set_random_seed(0)
    inputs = keras.Input(data.x.shape[1:])
    model = keras.Model(inputs, layers.Dense(5, "softmax")(cnn(inputs)))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data.x, data.y, epochs=10, verbose=0)
    return model.get_weights()[:-2]


def fine_tuned(x: Any) -> Any:
    """`cnn` as it was trained on the digits 0 to 4."""
    body = keras.Model(inputs := keras.Input(x.shape[1:]), cnn(inputs))
    body.set_weights(trained_body())
    return body(x)


def frozen(x: Any) -> Any:
    """`cnn` as it was trained on the digits 0 to 4, and frozen; a hidden layer after it."""
    body = keras.Model(inputs := keras.Input(x.shape[1:]), cnn(inputs), trainable=False)
    body.set_weights(trained_body())
    return layers.Dense(32, "relu")(body(x))


# --- the table ------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "SGD": keras.optimizers.SGD,
    "momentum": lambda *rate: keras.optimizers.SGD(*rate, momentum=0.9),
    "Adam": keras.optimizers.Adam,
    "AdamW": keras.optimizers.AdamW,
    "RMSprop": keras.optimizers.RMSprop,
    "Nadam": keras.optimizers.Nadam,
    "Adagrad": keras.optimizers.Adagrad,
    "Lion": keras.optimizers.Lion,
}


@dataclass(frozen=True)
class Task:
    """A network to train.

    Attributes:
        data: The function that returns the examples.
        net: The function that makes the network, up to its last layer.
        optimizer: A name of `OPTIMIZERS`.
        batch: Examples in a batch.
        epochs: The budget.
        metric: What it is scored by: `"accuracy"` in per cent, or 100 `"R2"`.
        held: Whether it is kept for the last judgement. Settled once, before any result was seen.
    """

    data: Callable[[], Data]
    net: Callable[[Any], Any]
    optimizer: str
    batch: int
    epochs: int
    metric: str = "accuracy"
    held: bool = False

    @property
    def name(self) -> str:
        """The name of its record."""
        return f"{self.data.__name__}-{self.net.__name__}-{self.optimizer}".lower()

    @property
    def steps(self) -> int:
        """Batches of the training: whole quarters, so that two cycles end where it does."""
        return len(self.data().x) // self.batch * self.epochs // 4 * 4

    @property
    def default_rate(self) -> float:
        """Keras's default rate of the optimizer."""
        return float(OPTIMIZERS[self.optimizer]().learning_rate)

    def order(self, seed: int) -> np.ndarray:
        """Returns which examples a training run of a seed sees, batch after batch."""
        rng, count = np.random.default_rng(seed), len(self.data().x)
        whole = count // self.batch * self.batch
        passes = [rng.permutation(count)[:whole] for _ in range(self.epochs)]
        return np.concatenate(passes)[: self.steps * self.batch]

    def score(self, said: np.ndarray) -> float:
        """Returns the score of the outputs for the test examples."""
        truth = self.data().y_test
        if self.metric == "accuracy":
            return round(100 * float(np.mean(said.argmax(axis=1) == truth)), 3)
        left = np.sum((said.astype("float64") - truth) ** 2)
        share = 1 - float(left / np.sum((truth - truth.mean(axis=0)) ** 2))
        return round(100 * max(0.0, share), 3)  # Of numbers that are not finite: 0.

    def model(self, seed: int) -> keras.Model:
        """Returns the network with the weights of a seed, not compiled."""
        data = self.data()
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(data.x.shape[1:], dtype=str(data.x.dtype))
        return keras.Model(inputs, layers.Dense(data.outputs, name=LAST)(self.net(inputs)))


HELD: dict[str, Any] = {"held": True}
TASKS = [
    # Tables and plain networks.
    Task(digits, mlp, "SGD", 32, 20),
    Task(digits, mlp_norm, "momentum", 64, 30),
    Task(digits_raw, linear, "SGD", 32, 30),
    Task(digits_raw, mlp, "Lion", 128, 60, **HELD),
    Task(cancer, mlp, "Adagrad", 16, 40),
    Task(cancer_raw, mlp, "Adam", 32, 60),
    Task(wine, mlp, "SGD", 16, 100),
    Task(wine_raw, mlp_norm, "RMSprop", 16, 100, **HELD),
    Task(iris, linear, "Adagrad", 16, 150, **HELD),
    Task(spirals, deep, "AdamW", 32, 30),
    Task(spirals, mlp, "momentum", 16, 6, **HELD),
    Task(table, mlp, "Nadam", 256, 30),
    Task(table, mlp_norm, "SGD", 64, 16, **HELD),
    # Regression.
    Task(diabetes, mlp, "Adam", 32, 100, metric="R2"),
    Task(diabetes, mlp_norm, "momentum", 16, 40, metric="R2", **HELD),
    Task(friedman, deep, "momentum", 64, 40, metric="R2"),
    Task(friedman_raw, mlp, "RMSprop", 32, 20, metric="R2"),
    Task(friedman, mlp, "Adagrad", 32, 25, metric="R2", **HELD),
    # Autoencoders.
    Task(digits_again, bottleneck, "Nadam", 64, 40, metric="R2"),
    Task(patches_again, bottleneck, "Adam", 128, 30, metric="R2", **HELD),
    # Images.
    Task(digit_images, cnn, "RMSprop", 16, 8),
    Task(digit_images, residual, "momentum", 32, 10),
    Task(digit_images, residual, "AdamW", 256, 60, **HELD),
    Task(shapes, cnn, "momentum", 32, 8),
    Task(shapes, cnn_norm, "AdamW", 128, 20),
    Task(shapes, residual, "Lion", 64, 8),
    Task(shapes, cnn, "Adam", 64, 4, **HELD),
    Task(patches, cnn, "Adam", 256, 40),
    Task(patches, cnn_norm, "SGD", 64, 10),
    # Fine-tuning.
    Task(late_digits, frozen, "momentum", 32, 20),
    Task(late_digits, fine_tuned, "Adam", 16, 10),
    Task(late_digits, fine_tuned, "SGD", 32, 12, **HELD),
    # Text and sequences.
    Task(topics, bag, "Adam", 32, 6),
    Task(text, gru, "Adam", 64, 4),
    Task(text, transformer, "AdamW", 64, 4),
    Task(text, bag, "Lion", 128, 10, **HELD),
    Task(order, transformer, "Lion", 64, 8),
    Task(order, gru, "RMSprop", 32, 5),
    Task(waves, gru, "momentum", 32, 8),
    Task(waves, transformer, "Nadam", 64, 10, **HELD),
    Task(adding, gru, "AdamW", 64, 16, metric="R2", **HELD),
]

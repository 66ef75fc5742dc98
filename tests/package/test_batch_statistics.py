"""`update_batch_normalization`: from whatever data, and nothing else is changed."""

import keras
import numpy as np
import pytest
from markers import BACKEND, needs_tensorflow

from clr.batch_statistics import update_batch_normalization
from clr.normalization import batch_normalization

X = np.random.default_rng(0).normal(3, 2, size=(80, 4)).astype("float32")


class Batched(keras.utils.PyDataset):
    """Batches of 16 with labels; endless if asked."""

    def __init__(self, endless=False):
        super().__init__()
        self.endless = endless

    @property
    def num_batches(self):
        return None if self.endless else 5

    def __getitem__(self, index):
        return X[16 * (index % 5) : 16 * (index % 5 + 1)], np.zeros(16)


def model_of(*layers, **options):
    norm = keras.layers.BatchNormalization(**options)
    return keras.Sequential([keras.Input((4,)), *layers, norm]), norm


def statistics(norm):
    return [keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance)]


def expected(batches):
    """The mean of the batches' means and variances, each weighed by its length."""
    sizes = [len(batch) for batch in batches]
    means, variances = ([f(b, axis=0) for b in batches] for f in (np.mean, np.var))
    return [np.average(each, axis=0, weights=sizes) for each in (means, variances)]


def check(norm, batches):
    for found, right in zip(statistics(norm), expected(batches), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5)


FIVE = [X[i : i + 16] for i in range(0, 80, 16)]
DATA = {
    "PyDataset": (Batched, {}),
    "generator": (lambda: ((batch, np.zeros(16)) for batch in FIVE), {"steps": 5}),
    "endless generator": (lambda: (FIVE[i % 5] for i in range(10**9)), {"steps": 5}),
    "iterable": (
        lambda: [(batch, np.zeros(16), np.ones(16)) for batch in FIVE].__iter__(),
        {"steps": 5},
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_statistics_are_the_mean_over_the_batches(name):
    model, norm = model_of()
    make, options = DATA[name]
    update_batch_normalization(model, make(), **options)
    check(norm, FIVE)
    assert norm.momentum == 0.99 and "call" not in vars(norm)


def test_arrays_are_shuffled_in_one_order_and_the_last_batch_counts_by_its_length():
    model, norm = model_of()
    for _ in range(2):
        update_batch_normalization(model, X, batch_size=32)
        order = np.random.default_rng(0).permutation(80)
        check(norm, [X[order[i : i + 32]] for i in (0, 32, 64)])


@needs_tensorflow
def test_tf_data_shuffled_or_endless():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, np.zeros(80))).shuffle(80)
    model, norm = model_of()
    update_batch_normalization(model, data.batch(80))
    check(norm, [X])
    with pytest.raises(ValueError, match=r"`steps` must say how many batches.*steps=None"):
        update_batch_normalization(model, data.repeat().batch(80))
    update_batch_normalization(model, data.repeat().batch(80), steps=2)
    check(norm, [X])


@pytest.mark.skipif(BACKEND != "torch", reason="speaks PyTorch")
def test_a_data_loader():
    import torch

    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.zeros(80))
    model, norm = model_of()
    update_batch_normalization(model, torch.utils.data.DataLoader(pairs, batch_size=16))
    check(norm, FIVE)


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (None, {}, r"`x` must be training data.*1 batch normalisation, .*Received: x=None"),
        (X[:0], {}, r"`x` must have an example"),
        (iter([]), {"steps": 1}, r"`x` must have an example"),
        (iter(FIVE), {}, r"`steps` must say how many batches"),
        (Batched(endless=True), {}, r"`steps` must say how many batches"),
        (X, {"steps": 0}, r"`steps`.*steps=0"),
        (X, {"batch_size": 0}, r"`batch_size`.*batch_size=0"),
    ],
)
def test_bad_data_are_refused_and_the_statistics_stay(data, options, said):
    model, norm = model_of()
    before = statistics(norm)
    with pytest.raises(ValueError, match=said):
        update_batch_normalization(model, data, **options)
    assert all(np.array_equal(*pair) for pair in zip(statistics(norm), before, strict=True))


def test_data_that_end_early_are_warned_of():
    model, norm = model_of()
    with pytest.warns(UserWarning, match=r"ended after 2 of the steps=3 batches"):
        update_batch_normalization(model, iter(FIVE[:2]), steps=3)
    check(norm, FIVE[:2])


def test_an_endless_pydataset_is_read_so_far():
    model, norm = model_of()
    update_batch_normalization(model, Batched(endless=True), steps=5)
    check(norm, FIVE)


@pytest.mark.parametrize("how", ["frozen", "called to infer", "none"])
def test_batch_normalisation_that_does_not_train_keeps_its_statistics(how):
    class Infers(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = keras.layers.BatchNormalization()

        def call(self, x):
            return self.norm(x, training=False)

    layer = Infers() if how == "called to infer" else keras.layers.Dense(2)
    model, norm = keras.Sequential([keras.Input((4,)), layer]), getattr(layer, "norm", None)
    if how == "frozen":
        model, norm = model_of(trainable=False)
    update_batch_normalization(model, X if how == "called to infer" else None)
    if norm is not None:
        assert [float(each.mean()) for each in statistics(norm)] == [0, 1]


def test_one_that_is_called_twice_has_the_mean_of_both():
    norm = keras.layers.BatchNormalization()
    pair = [keras.Input((4,)), keras.Input((4,))]
    model = keras.Model(pair, [norm(one) for one in pair])
    update_batch_normalization(model, [X, X + 2], batch_size=80)
    check(norm, [X, X + 2])


def test_one_of_an_inner_model_on_images_is_found():
    norm = batch_normalization()  # On TensorFlow a fused operation.
    inner = keras.Sequential([keras.Input((4, 4, 3)), norm])
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Rescaling(2.0), inner])
    images = np.random.default_rng(1).normal(1, 3, size=(20, 4, 4, 3)).astype("float32")
    update_batch_normalization(model, images, batch_size=20)
    check(norm, [2 * images.reshape(-1, 3)])


def test_nothing_else_of_the_model_changes_and_no_random_state():
    layers = [keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.BatchNormalization()]
    model, norm = model_of(*layers)
    model.compile("sgd", "mse")

    def others():
        changed = {id(v) for n in (norm, layers[2]) for v in (n.moving_mean, n.moving_variance)}
        return [
            np.array(keras.ops.convert_to_numpy(v)) for v in model.variables if id(v) not in changed
        ]

    def drawn():
        keras.utils.set_random_seed(5)
        yield keras.ops.convert_to_numpy(keras.random.normal((2,)))
        shuffled = (X[np.random.permutation(80)] for _ in range(2))
        update_batch_normalization(model, shuffled, steps=2)
        yield keras.ops.convert_to_numpy(keras.random.normal((2,))), np.random.normal()

    before = others()
    _, one = drawn()
    _, other = drawn()
    keras.utils.set_random_seed(5)
    keras.random.normal((2,))
    plain = keras.ops.convert_to_numpy(keras.random.normal((2,))), np.random.normal()
    for found in (one, other):
        np.testing.assert_array_equal(found[0], plain[0])
        assert found[1] == plain[1]
    assert all(np.array_equal(*pair) for pair in zip(others(), before, strict=True))

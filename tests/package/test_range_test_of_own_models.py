"""Range tests of models with a `train_step` of their own, and of data and metrics of any kind."""

import math
import warnings

import keras
import numpy as np
import pytest
from markers import needs_tensorflow

from clr.range_test import RangeTest, lr_range_test

X = np.random.default_rng(0).normal(size=(256, 6)).astype("float32")
Y = X.sum(1, keepdims=True)
SHORT = {"num_steps": 40, "start_lr": 1e-4, "end_lr": 0.1, "verbose": 0}


def net(kind=keras.Model, outputs=("out",), **compiled):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, "tanh")(inputs)
    found = [keras.layers.Dense(1, name=name)(hidden) for name in outputs]
    model = kind(inputs, found if len(found) > 1 else found[0])
    model.compile(**{"optimizer": "sgd", "loss": "mse"} | compiled)
    return model


def state(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(keras.ops.convert_to_numpy(v)).tolist() for v in variables]


# --- a `train_step` of its own --------------------------------------------------------------------


class Renamed(keras.Model):
    """Returns its loss under another name, on any backend, and counts its batches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = 0

    def train_step(self, *given):
        found = super().train_step(*given)
        logs = found[0] if isinstance(found, tuple) else found  # On JAX the state comes along.
        logs["contrastive_loss"] = logs.pop("loss")
        self.seen += 1
        return found


def test_a_loss_of_another_name_is_recorded_and_the_name_saved(tmp_path):
    model = net(Renamed)
    result = lr_range_test(model, X, Y, loss="contrastive_loss", shuffle=False, **SHORT)
    assert result.losses == pytest.approx(lr_range_test(net(), X, Y, shuffle=False, **SHORT).losses)
    assert result.trials is None  # `evaluate` knows the other name alone.
    assert model.seen == 0
    result.save(tmp_path / "test.json")
    assert RangeTest.load(tmp_path / "test.json").config["loss"] == "contrastive_loss"


def test_a_loss_that_is_not_there_is_an_error_that_lists_those_that_are():
    model = net(Renamed)
    model.fit(X, Y, verbose=0)
    before = state(model)
    message = "`loss` must be .*`model.train_step`.*one of contrastive_loss. Received: loss='loss'"
    with pytest.raises(ValueError, match=message):
        lr_range_test(model, X, Y, **SHORT)
    assert state(model) == before
    with pytest.raises(TypeError, match=r"`loss` must be the name.*loss=3"):
        lr_range_test(model, X, Y, loss=3, **SHORT)
    validated = {"validation_data": (X, Y), "validation_every": 5, "loss": "contrastive_loss"}
    with pytest.raises(ValueError, match=r"`model.test_step`.*one of loss"):
        lr_range_test(model, X, Y, **validated, **SHORT)


def test_the_loss_of_one_output_is_recorded_judged_and_validated():
    model = net(outputs=("a", "b"), loss=["mse", "mae"])
    options = SHORT | {"num_steps": 60, "loss": "b_loss"}
    result = lr_range_test(model, X, [Y, 3 * Y], **options)
    mean = float(np.abs(3 * Y).mean())
    assert result.losses[0] == pytest.approx(mean, rel=0.5)
    assert result.trials is None or result.trials[0][1] == pytest.approx(mean, rel=0.5)
    validated = {"validation_data": (X, [Y, 3 * Y]), "validation_every": 10}
    result = lr_range_test(model, X, [Y, 3 * Y], **validated, **options)
    assert result.losses[0] == pytest.approx(mean, rel=0.2)


def own_models():
    """Models that have no `call`, or one that can't take their data, as in Keras's examples."""
    import tensorflow as tf

    class Autoencoder(keras.Model):
        def __init__(self, **options):
            super().__init__()
            self.encoder = keras.Sequential([keras.layers.Dense(3)], **options)
            self.decoder = keras.Sequential([keras.layers.Dense(6)])
            self.tracker = keras.metrics.Mean(name="loss")
            self.steps = tf.Variable(0)
            self.python_steps = 0

        @property
        def metrics(self):
            return [self.tracker]

        def loss_of(self, data):
            data = data[0] if isinstance(data, tuple) else data
            return keras.ops.mean((self.decoder(self.encoder(data)) - data) ** 2)

        def train_step(self, data):
            with tf.GradientTape() as tape:
                loss = self.loss_of(data)
            weights = self.trainable_weights
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            self.tracker.update_state(loss)
            self.steps.assign_add(1)
            self.python_steps += 1
            return {"loss": self.tracker.result()}

    class Tested(Autoencoder):
        def test_step(self, data):
            self.tracker.update_state(self.loss_of(data))
            return {"loss": self.tracker.result()}

    class Siamese(Autoencoder):
        def call(self, inputs):
            return [self.encoder(i) for i in inputs]

        def loss_of(self, data):
            anchor, positive, negative = self(data)
            near, far = ((anchor - other) ** 2 for other in (positive, negative))
            return keras.ops.mean(keras.ops.relu(near - far + 0.5))

    return {"autoencoder": Autoencoder, "with a test_step": Tested, "siamese": Siamese}


def compiled(kind, **options):
    keras.utils.set_random_seed(0)
    model = own_models()[kind]()
    model.compile(keras.optimizers.Adam(), **options)
    return model


def data_for(kind):
    import tensorflow as tf

    triplets = tf.data.Dataset.from_tensor_slices((X, X + 0.1, X[::-1])).batch(32)
    return triplets if kind == "siamese" else X


@needs_tensorflow
@pytest.mark.parametrize("kind", ["autoencoder", "with a test_step", "siamese"])
@pytest.mark.parametrize("fitted", [False, True], ids=["new", "after a fit"])
@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer 'siamese")  # By `fit` alone.
def test_whatever_fit_trains_is_tested_and_trains_on_as_without_a_test(kind, fitted):
    def story(range_test):
        model = compiled(kind)
        data = data_for(kind)
        if fitted:
            model.fit(data, shuffle=False, verbose=0)
        if range_test:
            before, steps = state(model), model.python_steps
            result = lr_range_test(model, data, **SHORT | {"num_steps": 60})
            assert len(result.lrs) > 30
            assert (result.trials is not None) == (kind == "with a test_step")
            assert not fitted or state(model) == before
            assert model.python_steps == steps
        model.fit(data, shuffle=False, verbose=0)
        return state(model), int(model.steps)

    assert story(True) == story(False)


@needs_tensorflow
def test_a_model_that_runs_eagerly_is_tested_before_a_fit():
    model = compiled("autoencoder", run_eagerly=True)
    assert len(lr_range_test(model, X, **SHORT).lrs) > 20
    assert model.run_eagerly is True


@needs_tensorflow
def test_a_step_that_only_runs_eagerly_needs_a_fit_first():
    def eager():
        model = compiled("autoencoder", run_eagerly=True)
        loss_of = model.loss_of
        model.loss_of = lambda data: float(loss_of(data).numpy()) * 0 + loss_of(data)
        return model

    with pytest.raises(ValueError, match=r"only runs eagerly.*model.fit\(x, y"):
        lr_range_test(eager(), X, **SHORT)
    model = eager()
    model.fit(X, verbose=0)
    assert len(lr_range_test(model, X, **SHORT).lrs) > 20


@needs_tensorflow
def test_variables_made_in_the_test_are_not_said_to_be_put_back():
    model = compiled("autoencoder")
    model.fit(X, verbose=0)
    loss_of, tracker = model.loss_of, []

    def late(data):
        if not tracker:
            tracker.append(model.add_weight(name="late", trainable=False))
        return loss_of(data)

    model.loss_of = late
    model.train_function = None
    with pytest.warns(UserWarning, match="not as it was before: late.*model.fit on a few batches"):
        lr_range_test(model, X, **SHORT)


@needs_tensorflow
def test_validation_needs_a_test_step():
    model = compiled("autoencoder")
    message = "`validation_data` need a model that can be evaluated.*`test_step`, which failed"
    with pytest.raises(ValueError, match=message):
        lr_range_test(model, X, validation_data=(X,), validation_every=5, **SHORT)
    model = compiled("with a test_step")
    result = lr_range_test(model, X, validation_data=(X,), validation_every=5, **SHORT)
    assert len(result.lrs) == 8


class TwoOptimizers(Renamed):
    def compile(self, critic, **options):
        super().compile(**options)
        self.critic = critic


def test_several_optimizers_are_refused():
    model = net(TwoOptimizers, critic=keras.optimizers.Adam())
    with pytest.raises(ValueError, match=r"`lr_range_test` sets .*TwoOptimizers\.critic"):
        lr_range_test(model, X, Y, loss="contrastive_loss", **SHORT)


def test_an_autoencoder_with_add_loss_is_tested_on_x_alone():
    class Reconstructs(keras.layers.Layer):
        def call(self, inputs, outputs):
            self.add_loss(keras.ops.mean((inputs - outputs) ** 2))
            return outputs

    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(6)(keras.layers.Dense(3)(inputs))
    model = keras.Model(inputs, Reconstructs()(inputs, outputs))
    model.compile("adam")
    result = lr_range_test(model, X, verbose=0)
    assert len(result.lrs) > 100 and len(result.trials) > 1


# --- whether data are as they were ----------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Batches in an order of its own."""

    def __init__(self):
        super().__init__()
        self.order = np.arange(len(X))

    def __len__(self):
        return 8

    def __getitem__(self, i):
        rows = self.order[32 * i : 32 * i + 32]
        return X[rows], Y[rows]


class Shuffling(Batches):
    def on_epoch_end(self):
        np.random.shuffle(self.order)


SHUFFLING = Shuffling()


class Beginning(Batches):
    def on_epoch_begin(self):
        self.order = self.order[::-1]


class Augmenting(Batches):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + self.rng.normal(0, 0.01, x.shape), y


def flow():
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator().flow(X[:, :, None, None], Y)


def tf_data():
    return pytest.importorskip("tensorflow").data.Dataset.from_tensor_slices((X, Y)).batch(32)


def from_generator():
    import tensorflow as tf

    spec = tf.TensorSpec((None, 6)), tf.TensorSpec((None, 1))
    return tf.data.Dataset.from_generator(lambda: iter([(X, Y)] * 8), output_signature=spec)


def augmented():
    import tensorflow as tf

    return tf_data().map(lambda x, y: (x + tf.random.normal((6,), stddev=0.01), y))


def shuffled_inside():
    import tensorflow as tf

    def part(x, y):
        return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(32).batch(32)

    return tf_data().interleave(part)


def loader(**options):
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    if "generator" in options:
        options["generator"] = torch.Generator()
    return torch.utils.data.DataLoader(pairs, batch_size=32, **options)


@pytest.mark.parametrize(
    ("make", "rewound"),
    [
        (Batches, True),
        (Shuffling, False),
        (Beginning, False),
        (Augmenting, False),
        (lambda: Shuffling, True),
        (lambda: lambda: SHUFFLING, False),
        (lambda: tf_data().map(lambda x, y: (2 * x, y)).prefetch(1), True),
        pytest.param(from_generator, False, marks=needs_tensorflow),
        pytest.param(augmented, False, marks=needs_tensorflow),
        pytest.param(shuffled_inside, False, marks=needs_tensorflow),
        (loader, True),
        (lambda: loader(shuffle=True), True),
        (lambda: loader(shuffle=True, generator=None), False),
        (lambda: loader(sampler=list(range(256))), False),
    ],
    ids=[
        "a PyDataset",
        "shuffled at an epoch's end",
        "changed at its beginning",
        "a generator of its own",
        "a function that makes it",
        "a function that returns the same",
        "tf.data",
        "Python code in tf.data",
        "random numbers in tf.data",
        "a shuffle inside tf.data",
        "a DataLoader",
        "a shuffling DataLoader",
        "a DataLoader's own generator",
        "a DataLoader's own sampler",
    ],
)
def test_rewound_is_said_only_of_data_that_are_known_to_be(make, rewound):
    result = lr_range_test(net(), make(), trials=0, **SHORT)
    assert result.rewound is rewound


@pytest.mark.parametrize("make", [lambda: loader(shuffle=True), Batches, tf_data])
def test_data_said_to_be_rewound_go_on_as_without_a_test(make):
    def passes(range_test):
        keras.utils.set_random_seed(0)
        data = make()
        if range_test:
            assert lr_range_test(net(), data, **SHORT).rewound
            keras.utils.set_random_seed(0)  # `net` seeded; the test itself leaves no trace.
        batches = [data[i] for i in range(8)] if isinstance(data, Batches) else list(data)
        return [np.asarray(x).tolist() for x, _ in batches]

    assert passes(True) == passes(False)


def test_image_data_generators_are_not_rewound():
    pytest.importorskip("scipy")
    from clr.range_test.batches import rewinds

    assert not rewinds(flow())
    assert not any(map(rewinds, [iter([X]), map(abs, [X]), (b for b in [X]), object()]))


# --- no data, and no end of them ------------------------------------------------------------------


class Empty(Batches):
    def __len__(self):
        return 0


NO_DATA = [
    lambda: X[:0],
    lambda: {"a": X[:0]},
    lambda: [],
    Empty,
    lambda: lambda: None,
    lambda: lambda: (batch for batch in ()),
    lambda: tf_data().take(0),
    lambda: tf_data().filter(lambda x, y: False),
]
IDS = ["array", "dict", "list", "PyDataset", "None", "generator", "tf.data", "all filtered out"]


@pytest.mark.parametrize("make", NO_DATA, ids=IDS)
def test_no_data_are_named(make):
    with pytest.raises(ValueError, match=r"`x` must hold at least one batch. Received"):
        lr_range_test(net(), make(), **SHORT)


@pytest.mark.parametrize("make", [lambda: (X[:0], Y[:0]), *NO_DATA[3:]], ids=IDS[2:])
def test_no_validation_data_are_named(make):
    options = {"validation_data": make(), "validation_every": 10}
    with pytest.raises(ValueError, match="`validation_data` must hold at least one batch"):
        lr_range_test(net(), X, Y, **options, **SHORT)


class Endless(Batches):
    def __len__(self):
        raise NotImplementedError

    @property
    def num_batches(self):
        return None

    def __getitem__(self, i):
        return super().__getitem__(i % 8)


def endless():
    while True:
        yield X[:32], Y[:32]


ENDLESS = [Endless, lambda: Endless, lambda: endless, lambda: tf_data().repeat()]
ENDLESS_IDS = ["PyDataset", "a function that makes it", "generator", "tf.data"]


@pytest.mark.parametrize("make", ENDLESS, ids=ENDLESS_IDS)
def test_endless_validation_is_refused_or_as_long_as_was_said(make, monkeypatch):
    from clr.range_test import rising

    monkeypatch.setattr(rising, "MOST_VALIDATED", 50)
    options = {"validation_every": 20, "trials": 0} | SHORT
    message = "`validation_data` (have no end|of unknown length have not).*validation_steps=None"
    with pytest.raises(ValueError, match=message):
        lr_range_test(net(), X, Y, validation_data=make(), **options)
    result = lr_range_test(net(), X, Y, validation_data=make(), validation_steps=3, **options)
    assert len(result.lrs) == 2
    assert result.config["validation_steps"] == 3


def test_validation_steps_need_data():
    with pytest.raises(ValueError, match=r"`validation_steps` goes with.*validation_steps=3"):
        lr_range_test(net(), X, Y, validation_steps=3, **SHORT)


# --- what is an accuracy --------------------------------------------------------------------------


def my_accuracy(y, said):
    return keras.ops.mean(keras.ops.cast(keras.ops.sign(y) == keras.ops.sign(said), "float32"))


def vacc_rate_error(y, said):
    return keras.ops.mean((y - said) ** 2)


class Score(keras.metrics.BinaryAccuracy):
    pass


@pytest.mark.parametrize(
    ("outputs", "metrics", "expected"),
    [
        (["velocity", "acceleration"], None, None),
        (["acc", "accuracy_head"], None, None),
        (["acc", "my_acc"], [["mae"], ["mse"]], None),
        (["velocity", "acc"], [["mae"], ["accuracy"]], "acc_accuracy"),
        (["out"], ["mae", "acc"], "acc"),
        (["out"], [vacc_rate_error, my_accuracy], "my_accuracy"),
        (["out"], [vacc_rate_error], None),
        (["out"], [Score(name="score")], "score"),
        (["out"], [keras.metrics.MeanSquaredError(name="loss_of_accuracy")], None),
    ],
)
def test_a_loss_is_never_taken_for_an_accuracy(outputs, metrics, expected):
    model = net(outputs=outputs, loss=["mse"] * len(outputs), metrics=metrics)
    y = [Y] * len(outputs) if len(outputs) > 1 else Y
    options = SHORT | {"shuffle": False, "trials": 0}
    result = lr_range_test(model, X, y, **options)
    if expected is None:
        assert result.accuracies is None
        return
    assert result.accuracies == lr_range_test(model, X, y, metric=expected, **options).accuracies


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("accuracy_loss", "acc_loss", "loss"), None),
        (("acceleration", "loss"), None),
        (("loss", "p_acc"), "p_acc"),
        (("loss", "Accuracy"), "Accuracy"),
    ],
)
def test_the_logs_of_a_train_step_of_your_own_go_by_their_names(names, expected):
    from clr.range_test.metrics import accuracy_in

    assert accuracy_in(net(Renamed), names) == expected
    assert accuracy_in(net(), names) is None  # Keras's own logs have a metric each.


# --- the stop, and the arguments ------------------------------------------------------------------


@pytest.mark.parametrize("off", [None, math.inf, np.float64("inf")])
def test_the_stop_at_divergence_can_be_turned_off(off, tmp_path):
    options = {"num_steps": 40, "start_lr": 1e-3, "end_lr": 2.0, "trials": 0, "verbose": 0}
    assert lr_range_test(net(), X, Y, **options, stop_factor=1.1).stopped == "loss diverged"
    result = lr_range_test(net(), X, Y, **options, stop_factor=off)
    assert result.stopped != "loss diverged"
    assert "stop at divergence off" in repr(result)
    assert '"stop_factor": null' in result.to_json(tmp_path / "test.json")
    assert RangeTest.load(tmp_path / "test.json") == result


@pytest.mark.parametrize("factor", [math.nan, -math.inf, 1, "none", True])
def test_no_other_stop_factor_is_taken(factor):
    with pytest.raises((TypeError, ValueError), match="`stop_factor` must be"):
        lr_range_test(net(), X, Y, stop_factor=factor, **SHORT)


@pytest.mark.parametrize("together", [tuple, list])
def test_x_and_y_as_one_are_told_apart(together):
    with pytest.raises(ValueError, match=r"two arguments: lr_range_test\(model, x, y\)"):
        lr_range_test(net(), together((X, Y)), **SHORT)


def test_forgotten_targets_are_named():
    with pytest.raises(ValueError, match=r"`y` must be the targets.*loss='mse'"):
        lr_range_test(net(), X, **SHORT)


@pytest.mark.parametrize("together", [tuple, list])
def test_two_inputs_are_two_inputs(together):
    inputs = [keras.Input((6,)), keras.Input((1,))]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.concatenate(inputs)))
    model.compile("sgd", "mse")
    assert len(lr_range_test(model, together((X, Y)), Y, **SHORT).lrs) == 40


def test_a_file_written_before_these_arguments_is_read():
    config = {"beta": 0.98, "validation_every": None, "num_steps": 2, "stop_factor": 4.0}
    result = RangeTest([0.1, 0.2], [1.0, 0.5], None, "end_lr reached", True, config)
    assert RangeTest.from_dict(result.to_dict()) == result
    with warnings.catch_warnings(action="error"):
        assert "divergence" not in repr(result)

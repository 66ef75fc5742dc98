"""Callback and schedule in every way Keras can run them, judged by the weights of a real training.

Each batch of an epoch has a weight of its own, whose gradient is 1 in that batch and 0 in all
others. After an epoch each weight is therefore minus the rate of its batch, bit by bit.
"""

import functools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from markers import BACKEND, needs_steps_per_execution, needs_tensorflow

from clr import CyclicalLearningRate, CyclicLR, CyclicPolicy
from clr.callback import AHEAD

STEPS = 20  # Batches in an epoch.
CYCLE = {"base_lr": 1e-3, "max_lr": 5e-2, "step_size": 7}
RATES = CyclicPolicy(**CYCLE).rate(np.arange(10_000))
TWO_EPOCHS = RATES[: 2 * STEPS].reshape(2, STEPS).sum(axis=0)
BOTH = pytest.mark.parametrize("by", ["callback", "schedule"])
ONE_EPOCH = {"batch_size": 1, "shuffle": False, "verbose": 0}

pytestmark = pytest.mark.filterwarnings("ignore:Training will stop in mid-cycle")


@keras.saving.register_keras_serializable(package="tests")
def unit_gradient(y_true, y_pred):
    return y_pred


def data(steps=STEPS):
    return np.eye(steps, dtype="float32"), np.zeros((steps, 1), "float32")


def made(by, steps=STEPS, optimizer=keras.optimizers.SGD, **options):
    """A compiled model and the callbacks it is to be trained with."""
    given = {
        name: options.pop(name) for name in ("gradient_accumulation_steps",) if name in options
    }
    rate = CyclicalLearningRate(**CYCLE) if by == "schedule" else 0.5
    model = keras.Sequential(
        [keras.Input((steps,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(optimizer(rate, **given), unit_gradient, **options)
    return model, [CyclicLR(**CYCLE)] if by == "callback" else []


def fit(model, callbacks, steps=STEPS, **options):
    return model.fit(*data(steps), **{**ONE_EPOCH, **options}, callbacks=callbacks)


def trained_with(model):
    """The rate that each batch of the epoch was trained with; over several epochs, their sum."""
    return -keras.ops.convert_to_numpy(model.trainable_variables[0]).ravel()


def check(model, expected):
    np.testing.assert_allclose(trained_with(model), expected, rtol=2e-6)


SLOW_ON_TORCH = pytest.mark.skipif(
    BACKEND == "torch", reason="torch.compile takes a minute; test_schedule.py tries it once"
)


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"jit_compile": False}, id="jit off"),
        pytest.param({"jit_compile": True}, id="jit on", marks=SLOW_ON_TORCH),
        pytest.param({"run_eagerly": True}, id="eagerly"),
        pytest.param({"steps_per_execution": 1}, id="one step per execution"),
        pytest.param({"weighted_metrics": ["mse"]}, id="weighted metrics"),
    ],
)
def test_compiled_in_any_way_each_batch_has_its_rate(by, options):
    model, callbacks = made(by, **options)
    fit(model, callbacks)
    check(model, RATES[:STEPS])


@needs_steps_per_execution
@pytest.mark.parametrize("steps", [3, 7, STEPS])
def test_in_an_execution_of_several_steps_callback_and_schedule_do_as_documented(steps):
    model, callbacks = made("schedule", steps_per_execution=steps)
    fit(model, callbacks)
    check(model, RATES[:STEPS])
    model, callbacks = made("callback", steps_per_execution=steps)
    fit(model, callbacks)
    first = np.arange(STEPS) // steps * steps  # Of each execution.
    check(model, RATES[first])
    assert callbacks[0].history["lr"] == RATES[:STEPS:steps].tolist()


def test_keras_has_no_automatic_steps_per_execution_to_go_wrong():
    # tf.keras had. Should Keras learn it again, callback and schedule are to be tried with it here.
    model, callbacks = made("schedule", steps_per_execution="auto")
    with pytest.raises(TypeError, match="'str'"):
        fit(model, callbacks)


def test_gradient_accumulation_averages_over_an_updates_batches_at_its_rate():
    model, callbacks = made("callback", gradient_accumulation_steps=4)
    fit(model, callbacks)
    check(model, RATES[np.arange(STEPS) // 4] / 4)  # The callback counts updates,
    model, callbacks = made("schedule", gradient_accumulation_steps=4)
    fit(model, callbacks)
    check(model, RATES[np.arange(STEPS) // 4 * 4 + 3] / 4)  # Keras's schedules batches.


@BOTH
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_changes_no_rate(by, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model, callbacks = made(by)
        fit(model, callbacks)
    finally:
        keras.config.set_dtype_policy(before)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    check(model, RATES[:STEPS])


@BOTH
def test_several_fits_an_initial_epoch_and_a_saved_optimizer_continue_one_cycle(by):
    model, callbacks = made(by)
    fit(model, callbacks, epochs=1)
    fit(model, callbacks, initial_epoch=5, epochs=7)
    check(model, RATES[: 3 * STEPS].reshape(3, STEPS).sum(axis=0))


@BOTH
def test_a_training_stopped_early_goes_on_in_its_cycle(by):
    model, callbacks = made(by)
    stop = keras.callbacks.EarlyStopping("loss", patience=0, mode="max")  # The loss falls.
    fit(model, [*callbacks, stop], epochs=9)
    assert stop.stopped_epoch == 1
    fit(model, callbacks)
    check(model, RATES[: 3 * STEPS].reshape(3, STEPS).sum(axis=0))


@BOTH
def test_restored_weights_leave_the_cycle_where_it_is(by):
    model, callbacks = made(by)
    stop = keras.callbacks.EarlyStopping(
        "loss", patience=0, mode="max", restore_best_weights=True, start_from_epoch=0
    )
    fit(model, [*callbacks, stop], epochs=9)
    check(model, RATES[:STEPS])  # The best weights are the first epoch's; two were trained.
    fit(model, callbacks)
    check(model, RATES[:STEPS] + RATES[2 * STEPS : 3 * STEPS])


@BOTH
def test_validation_now_and_then_changes_nothing(by):
    model, callbacks = made(by, metrics=["mae"])
    history = fit(model, callbacks, epochs=4, validation_data=data(), validation_freq=2).history
    assert len(history["val_loss"]) == 2
    check(model, RATES[: 4 * STEPS].reshape(4, STEPS).sum(axis=0))


@BOTH
def test_class_and_sample_weights_scale_the_gradient_and_not_the_rate(by):
    weights = np.arange(1, STEPS + 1, dtype="float32")
    model, callbacks = made(by)
    fit(model, callbacks, sample_weight=weights)
    check(model, RATES[:STEPS] * weights)
    model, callbacks = made(by)
    labels = np.arange(STEPS) % 2
    model.fit(data()[0], labels, **ONE_EPOCH, class_weight={0: 1.0, 1: 3.0}, callbacks=callbacks)
    check(model, RATES[:STEPS] * (1 + 2 * labels))


@BOTH
@pytest.mark.parametrize("steps", [AHEAD, 2 * AHEAD + 1])
def test_an_epoch_may_be_longer_than_what_is_computed_ahead(by, steps):
    model, callbacks = made(by, steps)
    fit(model, callbacks, steps, epochs=2)
    check(model, RATES[: 2 * steps].reshape(2, steps).sum(axis=0))
    for cycle in callbacks:
        assert cycle.history["lr"] == RATES[: 2 * steps].tolist()


@BOTH
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_of_unknown_length_are_trained_on_with_the_same_rates(by):
    steps = AHEAD + 44
    x, y = data(steps)
    model, callbacks = made(by, steps)
    batches = ((x[i : i + 1], y[i : i + 1]) for i in range(steps))
    model.fit(batches, shuffle=False, verbose=0, callbacks=callbacks)
    check(model, RATES[:steps])
    for cycle in callbacks:
        assert cycle.history["lr"] == RATES[:steps].tolist()


@BOTH
def test_sparse_gradients_of_an_embedding_take_the_rate(by):
    rate = CyclicalLearningRate(**CYCLE) if by == "schedule" else 0.5
    model = keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            keras.layers.Embedding(STEPS, 1, embeddings_initializer="zeros"),
        ]
    )
    model.compile(keras.optimizers.SGD(rate), unit_gradient)
    callbacks = [CyclicLR(**CYCLE)] if by == "callback" else []
    model.fit(np.arange(STEPS), np.zeros((STEPS, 1)), **ONE_EPOCH, callbacks=callbacks)
    check(model, RATES[:STEPS])


@BOTH
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")  # JAX has none.
def test_layers_of_other_types_take_the_same_rate(by):
    rate = CyclicalLearningRate(**CYCLE) if by == "schedule" else 0.5
    inputs = keras.Input((STEPS,))
    layers = [
        keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=dtype)
        for dtype in ("float32", "mixed_bfloat16", "float64")
    ]
    model = keras.Model(inputs, [layer(inputs) for layer in layers])
    model.compile(keras.optimizers.SGD(rate), [unit_gradient] * 3)
    x, y = data()
    model.fit(x, [y] * 3, **ONE_EPOCH, callbacks=[CyclicLR(**CYCLE)] if by == "callback" else [])
    for layer in layers:
        weights = keras.ops.convert_to_numpy(layer.kernel).ravel()
        np.testing.assert_allclose(-weights, RATES[:STEPS], rtol=2e-6)


@needs_tensorflow
@BOTH
def test_a_train_step_of_ones_own_gets_the_rates(by):
    import tensorflow as tf

    class Own(keras.Sequential):
        def train_step(self, batch):
            x, _ = batch
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(x, training=True))
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    plain, callbacks = made(by)
    model = Own(plain.layers)
    model.compile(plain.optimizer, None)
    fit(model, callbacks)
    check(model, RATES[:STEPS])


class OwnStep(keras.Sequential):
    """A model whose `train_step` makes `updates` of them a batch, or one in `-updates` batches."""

    updates = 1
    batch = -1

    def train_step(self, *args):
        return getattr(self, f"on_{BACKEND}")(*args)

    def on_tensorflow(self, batch):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(batch[0], training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        if self.updates > 0:
            self.update(gradients)
            return {"loss": loss}
        if self.batch is OwnStep.batch:  # Gradients are added up by hand.
            self.sums = [tf.Variable(tf.zeros_like(g), trainable=False) for g in gradients]
            self.batch = tf.Variable(0, trainable=False)
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign_add(gradient)
        self.batch.assign_add(1)
        tf.cond(self.batch % self.updates == 0, self.update_and_clear, lambda: None)
        return {"loss": loss}

    def on_torch(self, batch):
        import torch

        if self.updates > 0 or (self.batch + 1) % self.updates == 0:
            self.zero_grad()
        loss = self(batch[0], training=True).mean()
        loss.backward()
        self.batch += 1
        if self.updates > 0 or (self.batch + 1) % self.updates == 0:
            with torch.no_grad():
                self.update([v.value.grad for v in self.trainable_variables])
        return {"loss": loss}

    def on_jax(self, state, batch):
        import jax

        trainable, others, of_optimizer, metrics = state

        def loss_of(trainable):
            y, _ = self.stateless_call(trainable, others, batch[0])
            return y.mean()

        loss, gradients = jax.value_and_grad(loss_of)(trainable)
        for _ in range(self.updates):
            trainable, of_optimizer = self.optimizer.stateless_apply(
                of_optimizer, gradients, trainable
            )
        return {"loss": loss}, (trainable, others, of_optimizer, metrics)

    def update(self, gradients):
        for _ in range(max(1, self.updates)):
            self.optimizer.apply(gradients, self.trainable_variables)

    def update_and_clear(self):
        self.update([v.value() for v in self.sums])
        for total in self.sums:
            total.assign(0 * total)


def own(optimizer, updates=1, **options):
    plain, callbacks = made("callback")
    model = OwnStep(plain.layers)
    model.updates = updates
    model.compile(optimizer, None, **options)
    return model, callbacks


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("updates", [2, 3, -4])
def test_an_own_train_step_moves_the_cycle_by_its_updates(updates, run_eagerly):
    if BACKEND == "jax" and updates < 0:
        pytest.skip("its steps have no state of their own to add up in")
    optimizer = keras.optimizers.SGD(0.5)
    model, callbacks = own(optimizer, updates, run_eagerly=run_eagerly)
    optimizer.build(model.trainable_variables)
    fit(model, callbacks, epochs=2)
    batches = np.arange(2 * STEPS)
    if updates > 0:
        rates, each = RATES[batches * updates], updates
    else:
        rates, each = RATES[batches // -updates], 1
    assert callbacks[0].history["lr"] == rates.tolist()
    assert callbacks[0].clr_iterations == int(optimizer.iterations)
    check(model, each * rates.reshape(2, STEPS).sum(axis=0))


def test_an_end_in_mid_cycle_is_foretold_from_the_updates_of_the_first_epoch():
    model, callbacks = own(keras.optimizers.SGD(0.5), 2)
    with pytest.warns(UserWarning, match=r"12 iterations into.*an epoch's 40 updates"):
        fit(model, callbacks, epochs=8)
    model, callbacks = own(keras.optimizers.SGD(0.5), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, callbacks, epochs=7)


class Twice(keras.optimizers.SGD):
    """An optimizer of one's own, which makes two updates of a batch."""

    def apply(self, grads, trainable_variables=None):
        super().apply(grads, trainable_variables)
        super().apply(grads, trainable_variables)


def test_an_optimizer_of_ones_own_moves_the_cycle_by_its_updates():
    model, callbacks = made("callback", optimizer=Twice)
    fit(model, callbacks, epochs=2)
    rates = RATES[2 * np.arange(2 * STEPS)]
    assert callbacks[0].history["lr"] == rates.tolist()
    check(model, 2 * rates.reshape(2, STEPS).sum(axis=0))


@needs_tensorflow
def test_a_train_step_that_never_updates_is_warned_of():
    class Idle(OwnStep):
        def train_step(self, batch):
            return {"loss": self(batch[0])[0, 0]}

    plain, callbacks = made("callback")
    model = Idle(plain.layers)
    model.compile(plain.optimizer, None)
    with pytest.warns(UserWarning, match=r"`model.optimizer` made no update.*20 batches") as said:
        fit(model, callbacks, epochs=3)
    assert sum("made no update" in str(w.message) for w in said) == 1


class TwoHalves(OwnStep):
    """Two optimizers of its own; `compile` gives it a third."""

    def compile(self, *optimizers):
        super().compile()
        self.critic_optimizer, self.generator_optimizer = optimizers


def test_several_optimizers_are_refused_by_name_before_the_first_batch():
    plain, callbacks = made("callback")
    model, names = TwoHalves(plain.layers), "TwoHalves.critic_optimizer, TwoHalves.generator"
    model.compile(keras.optimizers.SGD(0.5), keras.optimizers.SGD(0.5))
    with pytest.raises(ValueError, match=rf"`CyclicLR`.*{names}.*CyclicalLearningRate\("):
        fit(model, callbacks)
    assert not trained_with(model).any()


class ScaledStep(OwnStep):
    def train_step(self, batch):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.optimizer.scale_loss(tf.reduce_mean(self(batch[0], training=True)))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # As it must.
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("own_step", [False, pytest.param(True, marks=needs_tensorflow)])
def test_updates_that_loss_scaling_skips_use_no_rate_twice(own_step, momentum):
    # In half precision a scale of 2**18 overflows three times; halved, it is 2**15 then.
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inner = keras.optimizers.SGD(0.5, momentum=0.5 if momentum else 0.0)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**18)
        model, _ = made("callback")
        if own_step:
            model = ScaledStep(model.layers)
        model.compile(optimizer, unit_gradient)
        bounds = {"base_momentum": 0.0, "max_momentum": 0.5} if momentum else {}
        cycle = CyclicLR(**CYCLE, cycle_momentum=momentum, **bounds)
        fit(model, [cycle], epochs=3)
    finally:
        keras.config.set_dtype_policy(before)
    assert int(inner.iterations) == 3 * STEPS - 3
    assert cycle.history["lr"] == RATES[: 3 * STEPS].tolist()
    assert cycle.clr_iterations == 3 * STEPS
    if not momentum:
        each = RATES[: 3 * STEPS].reshape(3, STEPS).copy()
        each[0, :3] = 0
        np.testing.assert_allclose(trained_with(model), each.sum(axis=0), rtol=1e-3)


@needs_tensorflow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    "options",
    [{}, {"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=str,
)
@pytest.mark.parametrize("own_step", [False, True])
def test_data_of_unknown_length_end_their_epochs_in_the_right_place(options, own_step):
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(0.5)
    model, callbacks = own(optimizer, **options) if own_step else made("callback", **options)
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(1).filter(lambda x, y: True)
    logs = model.fit(batches, epochs=3, shuffle=False, verbose=0, callbacks=callbacks).history
    firsts = np.arange(STEPS) // options.get("steps_per_execution", 1)
    firsts *= options.get("steps_per_execution", 1)
    expected = RATES[STEPS * np.arange(3)[:, None] + firsts]
    check(model, expected.sum(axis=0))
    cycle = callbacks[0]
    each_execution = np.unique(firsts)
    assert (
        cycle.history["lr"]
        == RATES[(STEPS * np.arange(3)[:, None] + each_execution).ravel()].tolist()
    )
    assert logs["learning_rate"] == expected[:, -1].tolist()
    assert int(model.optimizer.iterations) == cycle.clr_iterations == 3 * STEPS


# Loops of one's own


def by_batch(model, cycle, epochs):
    for _ in range(epochs):
        for i in range(STEPS):
            cycle.on_train_batch_begin(i)
            model.train_on_batch(data()[0][i : i + 1], data()[1][i : i + 1])


def by_hooks(model, cycle, epochs, params=None):
    hooks = keras.callbacks.CallbackList([cycle], model=model, **params or {})
    hooks.on_train_begin()
    for epoch in range(epochs):
        hooks.on_epoch_begin(epoch)
        for i in range(STEPS):
            hooks.on_train_batch_begin(i)
            model.train_on_batch(data()[0][i : i + 1], data()[1][i : i + 1])
            hooks.on_train_batch_end(i)
        hooks.on_epoch_end(epoch)
    hooks.on_train_end()


def by_attached_model(model, cycle, epochs):
    cycle.set_model(model)
    by_batch(model, cycle, epochs)


def by_training(model, cycle, epochs):
    cycle.set_model(model)
    cycle.on_train_begin()
    by_batch(model, cycle, epochs)
    cycle.on_train_end()


@pytest.mark.parametrize(
    "loop",
    [
        by_attached_model,
        by_training,
        by_hooks,
        functools.partial(by_hooks, params={"epochs": 2, "steps": STEPS}),
        functools.partial(by_hooks, params={"epochs": 2, "steps": STEPS, "verbose": 0}),
    ],
    ids=["set_model", "on_train_begin", "CallbackList", "with params", "with all params"],
)
def test_a_loop_of_ones_own_gets_the_callbacks_rates(loop):
    model, (cycle,) = made("callback")
    loop(model, cycle, 2)
    check(model, TWO_EPOCHS)
    assert cycle.history["lr"] == RATES[: 2 * STEPS].tolist()


@needs_tensorflow
def test_a_loop_with_gradients_of_ones_own_gets_the_rate_of_each_update():
    import tensorflow as tf

    model, (cycle,) = made("callback")
    cycle.set_model(model)
    cycle.on_train_begin()
    for i, x in enumerate(data()[0]):
        cycle.on_train_batch_begin(i)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x[None]))
        gradients = tape.gradient(loss, model.trainable_variables)
        if i % 2:  # Every other batch updates.
            model.optimizer.apply(gradients, model.trainable_variables)
    expected = np.where(np.arange(STEPS) % 2, RATES[np.arange(STEPS) // 2], 0)
    check(model, expected)


def test_a_loop_that_attached_no_model_is_told_what_to_call():
    with pytest.raises(RuntimeError, match=r"`CyclicLR` has no model.*set_model\(model\)"):
        CyclicLR(**CYCLE).on_train_batch_begin(0)


def test_a_loop_of_ones_own_gets_the_schedules_rates():
    weights = keras.Variable(np.zeros(STEPS), dtype="float32")
    optimizer = keras.optimizers.SGD(CyclicalLearningRate(**CYCLE))
    optimizer.build([weights])
    for gradient in data()[0]:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weights])
    np.testing.assert_allclose(-keras.ops.convert_to_numpy(weights), RATES[:STEPS], rtol=2e-6)


@needs_tensorflow
@BOTH
def test_tensorboard_shows_the_rate_at_each_epochs_end(by, tmp_path):
    from tensorflow import make_ndarray
    from tensorflow.compat.v1.train import summary_iterator

    model, callbacks = made(by)
    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    fit(model, [*callbacks, board], epochs=3)
    shown = [
        float(make_ndarray(value.tensor))
        for path in (tmp_path / "train").iterdir()
        for event in summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "epoch_learning_rate"
    ]
    # The callback's rate is that of the epoch's last batch; a schedule's that of the next to come.
    last = STEPS * np.arange(1, 4) - (by == "callback")
    np.testing.assert_allclose(shown, RATES[last], rtol=2e-6)


@BOTH
def test_a_clone_has_cycles_of_its_own(by):
    model, callbacks = made(by)
    fit(model, callbacks)
    clone = keras.models.clone_model(model)
    clone.compile(model.optimizer.from_config(model.optimizer.get_config()), unit_gradient)
    fit(clone, callbacks)
    check(clone, RATES[:STEPS])


HERE = Path(__file__).resolve().parent
GO_ON = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent / "support")!r}]
import keras
from test_matrix import CYCLE, CyclicLR, fit, trained_with

for by in ("callback", "schedule"):
    model = keras.models.load_model(f"{{sys.argv[1]}}/{{by}}.keras")
    fit(model, [CyclicLR(**CYCLE)] if by == "callback" else [], initial_epoch=1, epochs=2)
    print(by, *trained_with(model).tolist())
"""


def in_a_new_process(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {by: np.array(values, float) for by, *values in lines}


def test_a_model_saved_in_mid_cycle_goes_on_in_a_new_process(tmp_path):
    for by in ("callback", "schedule"):
        model, callbacks = made(by)
        fit(model, callbacks)
        model.save(tmp_path / f"{by}.keras")
    found = in_a_new_process(GO_ON, tmp_path)
    assert list(found) == ["callback", "schedule"]
    for rates in found.values():
        np.testing.assert_allclose(rates, TWO_EPOCHS, rtol=2e-6)


# Another that sets the rate beside the callback


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "other",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.25),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1e9),
        lambda: CyclicLR(),
    ],
    ids=["LearningRateScheduler", "ReduceLROnPlateau", "CyclicLR"],
)
def test_a_second_callback_that_sets_the_rate_is_an_error(other, first):
    model, callbacks = made("callback")
    both = [other(), *callbacks] if first else [*callbacks, other()]
    with pytest.raises(ValueError, match="learning rate before every batch, and something"):
        fit(model, both, epochs=3)


class ByHand(keras.callbacks.Callback):
    """Sets the rate at one moment of the second epoch."""

    def __init__(self, moment):
        super().__init__()
        setattr(self, moment, self.set_rate)

    def set_rate(self, epoch, logs=None):
        if epoch == 1:
            self.model.optimizer.learning_rate = 0.25


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("moment", ["on_epoch_begin", "on_epoch_end"])
def test_a_rate_set_by_hand_amid_training_is_not_overruled_in_silence(moment, first):
    model, callbacks = made("callback")
    both = [ByHand(moment), *callbacks] if first else [*callbacks, ByHand(moment)]
    with pytest.raises(ValueError, match=r"another callback perhaps.*learning_rate=0\.25"):
        fit(model, both, epochs=3)


def test_a_rate_set_between_two_fits_is_nobodys_affair():
    model, callbacks = made("callback")
    fit(model, callbacks)
    model.optimizer.learning_rate = 0.25
    fit(model, callbacks)
    check(model, TWO_EPOCHS)


def test_a_state_put_back_amid_training_is_gone_on_from():
    class PutBack(keras.callbacks.Callback):
        """Goes back to the end of the first epoch once, as one does when a loss has exploded."""

        def on_epoch_end(self, epoch, logs=None):
            variables = [*self.model.variables, *self.model.optimizer.variables]
            if epoch == 0:
                self.kept = [keras.ops.convert_to_numpy(v) for v in variables]
            elif epoch == 1:
                for variable, value in zip(variables, self.kept, strict=True):
                    variable.assign(value)

    model, callbacks = made("callback")
    fit(model, [*callbacks, PutBack()], epochs=3)
    check(model, TWO_EPOCHS)

import warnings

import keras
import numpy as np
import pytest
from markers import needs_steps_per_execution
from rates_seen import RatesSeen

import clr
from clr import CyclicLR

X = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
CYCLE = {"base_lr": 1e-3, "max_lr": 5e-2, "step_size": 10}  # Ten batches of 32 are an epoch of X.
RATES = clr.CyclicPolicy(**CYCLE).rate(np.arange(1000))


def compiled(optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(0.5), "mse", **options)
    return model


def fit(model, callback, epochs=2, **options):
    return model.fit(
        X,
        Y,
        batch_size=32,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[callback],
        **options,
    )


def test_each_batch_is_trained_with_the_rate_that_history_says():
    model, cycle = compiled(RatesSeen(0.5)), CyclicLR(**CYCLE)
    fit(model, cycle)
    assert cycle.history["lr"] == RATES[:20].tolist()
    assert cycle.history["iterations"] == list(range(1, 21))
    assert float(model.optimizer.total) == pytest.approx(sum(RATES[:20]), rel=1e-5)


def test_the_weights_are_those_of_updates_with_these_rates():
    model, cycle = compiled(), CyclicLR(**CYCLE)
    w, b = (value.astype("float64") for value in model.get_weights())
    fit(model, cycle)
    for i in range(20):
        at = slice(i % 10 * 32, i % 10 * 32 + 32)
        error = X[at] @ w + b - Y[at]
        w -= RATES[i] * 2 * X[at].T @ error / 32
        b -= RATES[i] * 2 * error.mean(axis=0)
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-4)


def test_the_tutorials_script_runs_as_its_readers_wrote_it():
    # Only SGD's `lr=` and `fit_generator` are of today's Keras; the callback's lines are untouched.
    MIN_LR, MAX_LR = 1e-7, 1e-2
    BATCH_SIZE, STEP_SIZE, CLR_METHOD, NUM_EPOCHS = 64, 1, "triangular", 4
    data = clr.datasets.digits()
    trainX, trainY = data.x_train[:320], data.y_train[:320]
    testX, testY = data.x_test[:64], data.y_test[:64]
    opt = keras.optimizers.SGD(learning_rate=MIN_LR, momentum=0.9)
    model = clr.MiniGoogLeNet((32, 32, 3), 10, width=0.05)
    model.compile(loss="categorical_crossentropy", optimizer=opt, metrics=["accuracy"])
    stepSize = STEP_SIZE * (trainX.shape[0] // BATCH_SIZE)
    clr_ = CyclicLR(mode=CLR_METHOD, base_lr=MIN_LR, max_lr=MAX_LR, step_size=stepSize)
    H = model.fit(
        trainX,
        trainY,
        batch_size=BATCH_SIZE,
        validation_data=(testX, testY),
        epochs=NUM_EPOCHS,
        callbacks=[clr_],
        verbose=0,
    )
    N = np.arange(0, len(clr_.history["lr"]))
    ax = clr.plots.rates(clr_.history["lr"])
    assert len(N) == NUM_EPOCHS * stepSize == len(ax.lines[0].get_ydata())
    one_step = (MAX_LR - MIN_LR) / stepSize
    assert clr_.history["lr"][-1] == pytest.approx(MIN_LR + one_step)
    assert max(clr_.history["lr"]) == MAX_LR and H.history["val_accuracy"]


def test_a_second_fit_goes_on_where_the_first_stopped():
    model, cycle = compiled(), CyclicLR(**CYCLE)
    with pytest.warns(UserWarning, match="mid-cycle"):
        fit(model, cycle, epochs=1)
    fit(model, cycle, epochs=1)
    assert cycle.history["lr"] == RATES[:20].tolist()


def test_compiling_anew_starts_a_new_cycle():
    model, cycle = compiled(), CyclicLR(**CYCLE)
    with pytest.warns(UserWarning, match="mid-cycle"):
        fit(model, cycle, epochs=1)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    fit(model, cycle)
    assert cycle.history["lr"][10:] == RATES[:20].tolist()


@pytest.mark.filterwarnings("ignore:Training will stop")
def test_reset_starts_a_new_cycle_with_new_bounds():
    model, cycle = compiled(), CyclicLR(**CYCLE)
    fit(model, cycle, epochs=1)
    cycle.reset(new_base_lr=0.0, new_step_size=5)
    fit(model, cycle, epochs=1)
    expected = clr.CyclicPolicy(0.0, CYCLE["max_lr"], 5).rate(np.arange(10))
    assert cycle.history["lr"][10:] == expected.tolist()
    cycle._reset(new_step_size=10)  # The reference's name.
    fit(model, cycle, epochs=1)
    assert cycle.history["lr"][20:][0] == 0.0


@pytest.mark.filterwarnings("ignore:Training will stop")
@pytest.mark.parametrize("backup_first", [True, False])
def test_a_resumed_fit_goes_on_in_either_order_with_backup_and_restore(tmp_path, backup_first):
    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    def attempt(*more):
        model, cycle = compiled(), CyclicLR(**CYCLE)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        both = [backup, cycle] if backup_first else [cycle, backup]
        model.fit(X, Y, batch_size=32, epochs=5, verbose=0, callbacks=[*both, *more])
        return cycle

    with pytest.raises(KeyboardInterrupt):
        attempt(Killed())
    assert attempt().history["lr"] == RATES[30:50].tolist()


@needs_steps_per_execution
@pytest.mark.filterwarnings("ignore:Training will stop")
def test_steps_per_execution_gives_one_entry_an_execution_at_its_first_batch():
    model, cycle = compiled(steps_per_execution=3), CyclicLR(**CYCLE)
    fit(model, cycle, epochs=2)
    assert cycle.history["lr"] == RATES[[0, 3, 6, 9, 10, 13, 16, 19]].tolist()


def test_under_gradient_accumulation_the_rate_belongs_to_the_update():
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=4)
    model, cycle = compiled(optimizer), CyclicLR(**{**CYCLE, "step_size": 5})
    fit(model, cycle, epochs=4)  # 40 batches, 10 updates; an epoch ends amid an update.
    expected = clr.CyclicPolicy(**{**CYCLE, "step_size": 5}).rate(np.arange(40) // 4)
    assert cycle.history["lr"] == expected.tolist()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Nadam", "Lion", "Adafactor"])
def test_every_optimizer_takes_the_rate(name):
    model, cycle = compiled(getattr(keras.optimizers, name)(learning_rate=0.5)), CyclicLR(**CYCLE)
    fit(model, cycle)
    assert float(model.optimizer.learning_rate) == pytest.approx(RATES[19], rel=1e-6)


def test_a_loss_scale_optimizer_takes_the_rate():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    model, cycle = compiled(optimizer), CyclicLR(**CYCLE)
    fit(model, cycle)
    assert float(optimizer.inner_optimizer.learning_rate) == pytest.approx(RATES[19], rel=1e-6)
    assert cycle.history["lr"] == RATES[:20].tolist()


def test_logs_carry_the_rate_of_each_epochs_last_batch(tmp_path):
    model, cycle = compiled(), CyclicLR(**CYCLE)
    log = tmp_path / "log.csv"
    model.fit(
        *(X, Y),
        batch_size=32,
        epochs=2,
        verbose=0,
        callbacks=[cycle, keras.callbacks.CSVLogger(log)],
    )
    assert model.history.history["learning_rate"] == [RATES[9], RATES[19]]
    header, first, *_ = (line.split(",") for line in log.read_text().splitlines())
    assert float(first[header.index("learning_rate")]) == RATES[9]


def test_stopping_in_mid_cycle_warns_once_and_names_the_nearest_epochs():
    model = compiled()
    with pytest.warns(UserWarning, match=r"mid-cycle.*epochs=4") as caught:
        fit(model, CyclicLR(**CYCLE), epochs=5)
    assert [w.category for w in caught].count(UserWarning) == 1
    with pytest.warns(UserWarning, match=r"epochs=2\b.*multiple of 10"):
        fit(compiled(), CyclicLR(**{**CYCLE, "step_size": 11}), epochs=2)


def test_whole_cycles_draw_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(compiled(), CyclicLR(**CYCLE), epochs=4)


def test_an_optimizer_on_a_schedule_is_refused_at_the_start_of_fit():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(ValueError, match=r"schedule.*CyclicalLearningRate"):
        fit(compiled(keras.optimizers.SGD(schedule)), CyclicLR(**CYCLE))


def test_bad_arguments_are_refused_at_construction_and_reset():
    with pytest.raises(ValueError, match=r"`mode`.*'circle'"):
        CyclicLR(mode="circle")
    with pytest.raises(ValueError, match=r"`max_lr`.*0\.006"):
        CyclicLR().reset(new_base_lr=1.0)


def test_asynchronous_dispatch_stays_on():
    # Where Keras runs hooks beside the next batch, any that is not declared safe ends that.
    assert CyclicLR().async_safe
    hooks = keras.callbacks.CallbackList([CyclicLR()])
    assert hooks._async_train == keras.callbacks.CallbackList([])._async_train

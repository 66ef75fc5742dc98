"""Callbacks without a length: their cycles span the `fit` that they are in."""

import warnings

import keras
import numpy as np
import pytest
from markers import needs_steps_per_execution
from rates_seen import RatesSeen

from clr import CyclicLR, CyclicPolicy, OneCycleLR, OneCyclePolicy, Snapshots, plots
from clr.policies import WholeCyclesPolicy

X = np.random.default_rng(0).normal(size=(310, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
STEPS = 10  # Batches of 32 in an epoch of X, the last one of 22.
BOUNDS = {"base_lr": 1e-3, "max_lr": 5e-2}
MAKERS = [
    pytest.param(lambda: OneCycleLR(5e-2), 1, id="one_cycle"),
    pytest.param(lambda: CyclicLR(**BOUNDS, cycles=3), 3, id="cyclic"),
]


def one(length):
    return OneCyclePolicy(5e-2, length)


def three(length):
    return WholeCyclesPolicy(**BOUNDS, cycles=3, total_steps=length)


POLICIES = {1: one, 3: three}


def compiled(optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(0.5, momentum=0.9), "mse", **options)
    return model


def fit(model, callback, epochs=2, x=X, y=Y, **options):
    given = {"batch_size": 32, "shuffle": False, "verbose": 0, **options}
    callbacks = [callback] if isinstance(callback, keras.callbacks.Callback) else callback
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Of a cycle cut short, above all.
        return model.fit(x, y, epochs=epochs, callbacks=callbacks, **given)


def rates(number, length):
    return POLICIES[number](length).rate(np.arange(length)).tolist()


@pytest.mark.parametrize("total, cycles", [(20, 1), (20, 2), (21, 2), (23, 5), (10, 5), (999, 7)])
def test_whole_cycles_cover_all_iterations_and_differ_by_one_at_most(total, cycles):
    policy = WholeCyclesPolicy(**BOUNDS, cycles=cycles, total_steps=total)
    values = policy.rate(np.arange(total))
    starts = np.flatnonzero(values == BOUNDS["base_lr"])
    lengths = np.diff([*starts, total])
    assert len(starts) == cycles and starts[0] == 0
    assert np.ptp(lengths) <= 1 and (np.diff(lengths) <= 0).all()
    tops = np.flatnonzero(np.isclose(values, BOUNDS["max_lr"], rtol=1e-12))
    assert tops.tolist() == [s + n // 2 for s, n in zip(starts, lengths, strict=True)]
    ended = [policy.cycles_before(i) for i in range(total + 1)]
    assert ended == [(starts <= i).sum() - 1 for i in range(total)] + [cycles]
    in_tensors = policy.rate(keras.ops.arange(total), xp=keras.ops, dtype="float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(in_tensors), values, rtol=1e-5)


def test_where_the_cycles_divide_they_are_the_cyclic_policys():
    i = np.arange(60)
    for mode in ("triangular", "triangular2", "exp_range"):
        shape = CyclicPolicy(**BOUNDS, step_size=10, mode=mode, gamma=0.99)
        whole = WholeCyclesPolicy.like(shape, 3, 60)
        np.testing.assert_array_equal(whole.rate(i), shape.rate(i))
        np.testing.assert_array_equal(whole.momentum(i), shape.momentum(i))


@pytest.mark.parametrize("make, number", MAKERS)
def test_the_cycles_span_the_fit_and_end_with_its_last_update(make, number):
    model, cycle = compiled(RatesSeen(0.5)), make()
    assert cycle.policy is None
    fit(model, cycle)
    assert cycle.policy == POLICIES[number](2 * STEPS)
    assert cycle.history["lr"] == rates(number, 2 * STEPS)
    assert cycle.history["iterations"] == list(range(1, 2 * STEPS + 1))
    assert cycle.cycles_done() == number
    assert float(model.optimizer.total) == pytest.approx(sum(rates(number, 2 * STEPS)), rel=1e-5)


@pytest.mark.parametrize("make, number", MAKERS)
@pytest.mark.parametrize(
    "options, steps",
    [
        ({"validation_split": 0.5}, 5),
        ({"steps_per_epoch": 4}, 4),
        ({"batch_size": 100}, 4),
        ({"validation_data": (X[:64], Y[:64])}, 10),
    ],
)
def test_the_length_follows_from_the_arguments_of_fit(make, number, options, steps):
    model, cycle = compiled(), make()
    fit(model, cycle, **options)
    assert int(model.optimizer.iterations) == 2 * steps
    assert cycle.history["lr"] == rates(number, 2 * steps)


def batches():
    while True:
        yield X[:32], Y[:32]


@needs_steps_per_execution
@pytest.mark.parametrize("make, number", MAKERS)
def test_steps_per_execution_leaves_the_length_as_it_is(make, number):
    model, cycle = compiled(steps_per_execution=3), make()
    fit(model, cycle)
    assert cycle.policy == POLICIES[number](2 * STEPS) and cycle.cycles_done() == number
    firsts = [0, 3, 6, 9, 10, 13, 16, 19]
    assert cycle.history["lr"] == [rates(number, 2 * STEPS)[i] for i in firsts]


@needs_steps_per_execution
@pytest.mark.filterwarnings("ignore:.*shuffle=True:UserWarning")
def test_an_epoch_of_other_steps_than_announced_is_warned_of():
    model = compiled(steps_per_execution=3)
    with pytest.warns(UserWarning, match=r"epochs of 10 batches.* had 12") as caught:
        model.fit(batches(), epochs=3, steps_per_epoch=10, verbose=0, callbacks=[OneCycleLR(5e-2)])
    assert sum("spans epochs" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("make, number", MAKERS)
@pytest.mark.parametrize("each, epochs", [(4, 4), (5, 3), (4, 3)])
def test_under_gradient_accumulation_the_cycles_count_updates(make, number, each, epochs):
    model, cycle = (
        compiled(keras.optimizers.SGD(0.5, momentum=0.9, gradient_accumulation_steps=each)),
        make(),
    )
    for fits in (1, 2):
        before = int(model.optimizer.iterations)
        fit(model, cycle, epochs)
        made = int(model.optimizer.iterations) - before
        policy = POLICIES[number](made)
        assert cycle.policy == policy and cycle.cycles_done() == number
        batches = np.arange(epochs * STEPS) + (fits - 1) * epochs * STEPS
        expected = policy.rate(batches // each - before)
        assert cycle.history["lr"][-epochs * STEPS :] == expected.tolist()


@pytest.mark.parametrize("make, number", MAKERS)
def test_a_second_fit_has_cycles_of_its_own(make, number):
    model, cycle = compiled(), make()
    fit(model, cycle, epochs=3)
    fit(model, cycle, epochs=2)
    fit(model, make(), epochs=1)
    assert cycle.history["lr"] == rates(number, 3 * STEPS) + rates(number, 2 * STEPS)


@pytest.mark.parametrize("make, number", MAKERS)
def test_a_run_resumed_at_an_epoch_goes_on_over_its_whole_length(make, number, tmp_path):
    model = compiled("sgd")
    fit(model, make(), epochs=2)
    model.save(tmp_path / "model.keras")
    for resumed in (model, keras.models.load_model(tmp_path / "model.keras")):
        cycle = make()
        fit(resumed, cycle, epochs=5, initial_epoch=2)
        assert cycle.policy == POLICIES[number](5 * STEPS)
        assert cycle.history["lr"] == rates(number, 5 * STEPS)[2 * STEPS :]
        assert cycle.cycles_done() == number


@pytest.mark.parametrize("make, number", MAKERS)
def test_a_resumed_run_asks_the_optimizer_and_not_the_callbacks_former_fits(make, number):
    model, used, new = compiled(), make(), make()
    fit(model, used, epochs=2)
    fit(model, used, epochs=2)
    fit(model, [used], epochs=5, initial_epoch=4)
    model.optimizer.iterations.assign(4 * STEPS)
    fit(model, [new], epochs=5, initial_epoch=4)
    assert used.history["lr"][4 * STEPS :] == new.history["lr"] == rates(number, 50)[4 * STEPS :]


@pytest.mark.parametrize("make, number", MAKERS)
def test_a_new_optimizer_at_a_later_epoch_begins_its_own_run(make, number):
    model, cycle = compiled(), make()
    fit(model, cycle, epochs=2)
    model.compile(keras.optimizers.SGD(0.5), "mse")  # Fine-tuning, say.
    fit(model, cycle, epochs=5, initial_epoch=2)
    assert cycle.history["lr"][2 * STEPS :] == rates(number, 3 * STEPS)


class Killed(keras.callbacks.Callback):
    def __init__(self, epoch, batch=0):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("make, number", MAKERS)
@pytest.mark.parametrize("backup_first", [True, False])
@pytest.mark.parametrize("trained_before", [0, 2])
def test_a_killed_run_goes_on_where_it_was(make, number, backup_first, trained_before, tmp_path):
    def attempt(*more):
        model, cycle = compiled("sgd"), make()
        if trained_before:
            fit(model, make(), epochs=trained_before)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        both = [backup, cycle] if backup_first else [cycle, backup]
        try:
            fit(model, [*both, *more], epochs=5)
        finally:
            attempt.lr = cycle.history["lr"]
        return cycle

    with pytest.raises(KeyboardInterrupt):
        attempt(Killed(3))
    first = attempt.lr[: 3 * STEPS]
    again = attempt()
    assert first + again.history["lr"] == rates(number, 5 * STEPS)
    assert again.cycles_done() == number


@pytest.mark.parametrize("make, number", MAKERS)
def test_a_backup_from_amid_an_epoch_still_ends_with_the_cycle(make, number, tmp_path):
    def attempt(*more):
        model, cycle = compiled("sgd"), make()
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=13)
        fit(model, [cycle, backup, *more], epochs=3)
        return cycle

    with pytest.raises(KeyboardInterrupt):
        attempt(Killed(1, 8))
    # Keras begins the epoch again, with a count from its middle.
    again = attempt()
    assert again.history["lr"] == rates(number, 3 * STEPS)[STEPS:]
    assert again.cycles_done() == number


@pytest.mark.parametrize("make, number", MAKERS)
def test_a_reset_spans_what_is_left(make, number):
    model, cycle = compiled(), make()

    class Reset(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                cycle.reset()

    fit(model, [cycle, Reset()], epochs=5)
    assert cycle.history["lr"] == rates(number, 5 * STEPS)[: 2 * STEPS] + rates(number, 3 * STEPS)
    fit(model, cycle, epochs=2)
    cycle.reset()
    fit(model, cycle, epochs=4, initial_epoch=2)
    assert cycle.history["lr"][5 * STEPS :] == 2 * rates(number, 2 * STEPS)


def test_a_reset_with_bounds_keeps_the_cycles_and_one_with_a_step_size_ends_them():
    model, cycle = compiled(), CyclicLR(**BOUNDS, cycles=3)
    cycle.reset(new_base_lr=0.0)
    fit(model, cycle)
    expected = WholeCyclesPolicy(0.0, BOUNDS["max_lr"], cycles=3, total_steps=2 * STEPS)
    assert cycle.policy == expected
    cycle.reset(new_step_size=5)
    assert cycle.policy == CyclicPolicy(0.0, BOUNDS["max_lr"], 5)
    fit(model, cycle)
    assert cycle.history["lr"][2 * STEPS :] == cycle.policy.rate(np.arange(2 * STEPS)).tolist()


@pytest.mark.parametrize(
    "make, number",
    [
        (lambda: OneCycleLR(5e-2, cycle_momentum=True), 1),
        (lambda: CyclicLR(**BOUNDS, cycles=3, cycle_momentum=True), 3),
    ],
)
def test_the_weights_are_those_of_updates_with_these_rates_and_momenta(make, number):
    model, cycle = compiled(), make()
    w, b = (value.astype("float64") for value in model.get_weights())
    v = np.zeros(5)
    momenta = []
    for epochs in (1, 2):
        fit(model, cycle, epochs)
        policy, i = POLICIES[number](epochs * STEPS), np.arange(epochs * STEPS)
        momenta += policy.momentum(i).tolist()
        for k, rate, momentum in zip(i, policy.rate(i), policy.momentum(i), strict=True):
            x, y = (values[k % 10 * 32 :][:32] for values in (X, Y))
            error = x @ w + b - y
            gradient = 2 * np.append((x.T @ error)[:, 0], error.sum()) / len(x)
            v = momentum * v - rate * gradient
            w, b = w + v[:4, None], b + v[4:]
        np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-4)
    assert cycle.history["momentum"] == momenta
    assert model.optimizer.momentum == 0.9


@pytest.mark.filterwarnings("ignore:.*shuffle=True:UserWarning")
@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: OneCycleLR(5e-2), r"`total_steps`.*total_steps = 3 \* batches per epoch.*steps="),
        (lambda: CyclicLR(cycles=2), r"`step_size`.*cycles=2.*3 \* batches per epoch / 4.*steps="),
    ],
)
def test_data_of_unknown_length_are_refused_unless_the_steps_are_told(make, said):
    model, cycle = compiled(), make()
    with pytest.raises(ValueError, match=said):
        model.fit(batches(), epochs=3, verbose=0, callbacks=[cycle])
    assert int(model.optimizer.iterations) == 0
    model.fit(batches(), epochs=3, steps_per_epoch=4, verbose=0, callbacks=[cycle])
    assert cycle.policy.rate(11) == cycle.history["lr"][-1] and len(cycle.history["lr"]) == 12


@pytest.mark.filterwarnings("ignore:.*shuffle=True:UserWarning")
def test_under_accumulation_the_length_asked_for_is_divided():
    model = compiled(keras.optimizers.SGD(0.5, momentum=0.9, gradient_accumulation_steps=4))
    with pytest.raises(ValueError, match=r"total_steps = 3 \* batches per epoch / 4"):
        model.fit(batches(), epochs=3, verbose=0, callbacks=[OneCycleLR(5e-2)])


def test_a_run_too_short_for_its_cycles_is_refused():
    with pytest.raises(ValueError, match=r"`cycles`.*at most half.*10.*cycles=6"):
        fit(compiled(), CyclicLR(cycles=6), epochs=1)
    with pytest.raises(ValueError, match=r"`total_steps`.*two updates.*1 updates"):
        fit(compiled(), OneCycleLR(5e-2), epochs=1, x=X[:32], y=Y[:32])


@pytest.mark.parametrize("name", ["step_size", "step_size_down"])
def test_cycles_and_a_step_size_are_not_given_together(name):
    with pytest.raises(ValueError, match=rf"`cycles`.*`{name}`.*cycles=3, {name}=2000"):
        CyclicLR(cycles=3, **{name: 2000})


@pytest.mark.parametrize(
    "cycles, error", [(0, ValueError), (1.5, ValueError), ("2", TypeError), (True, TypeError)]
)
def test_cycles_is_a_whole_number_from_1(cycles, error):
    with pytest.raises(error, match=rf"`cycles`.*whole number.*cycles={cycles!r}"):
        CyclicLR(cycles=cycles)


def test_a_bad_argument_is_refused_before_the_length_is_known():
    with pytest.raises(ValueError, match=r"`max_lr`.*base_lr"):
        CyclicLR(base_lr=1.0, max_lr=0.1, cycles=2)
    with pytest.raises(ValueError, match=r"`pct_start`"):
        OneCycleLR(0.1, pct_start=1.0)


def test_without_cycles_the_step_size_is_the_references():
    assert CyclicLR().policy == CyclicPolicy(step_size=2000)


def test_what_needs_a_length_says_so():
    cycle = CyclicLR(cycles=2)
    with pytest.raises(TypeError, match=r"`policy`.*spans `fit`.*policy=None"):
        plots.policy(cycle.policy)
    with pytest.raises(RuntimeError, match=r"`cycles_done`.*policy=None"):
        cycle.cycles_done()


def test_snapshots_keep_each_cycle_of_the_fit_and_stand_after_the_callback(tmp_path):
    model, cycle = compiled("sgd"), CyclicLR(**BOUNDS, cycles=2)
    snapshots = Snapshots(cycle, tmp_path)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 1)
    )
    fit(model, [cycle, snapshots, stop], epochs=4)
    assert sorted(snapshots.weights) == [1]
    resumed = Snapshots(cycle, tmp_path)
    fit(model, [cycle, resumed], epochs=4, initial_epoch=2)
    assert sorted(resumed.weights) == [1, 2]
    with pytest.raises(ValueError, match=r"`cycle` must stand before Snapshots"):
        fit(model, [snapshots, cycle], epochs=2)

"""The optimizers of a MultiOptimizer move together, each in proportion to its own rate."""

import copy
import pickle

import keras
import numpy as np
import pytest

from clr import CyclicLR, OneCycleLR, cycle_momentum, lr_range_test, optimizers, policies, rates

if not hasattr(keras.optimizers, "MultiOptimizer"):
    pytest.skip("Keras has MultiOptimizer from version 3.15 on", allow_module_level=True)

from keras.optimizers import SGD, Adam, LossScaleOptimizer, MultiOptimizer, OptimizerMap

BACKEND = keras.backend.backend()
BODY, HEAD = ".*body/.*", ".*head/.*"
X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X @ np.random.default_rng(1).normal(size=(4, 2)).astype("float32")


def net(inputs=True):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, name="body"), keras.layers.Dense(2, name="head")]
    return keras.Sequential([keras.Input((4,)), *layers] if inputs else layers)


def compiled(model=None, body=None, head=None, wrapped=False, **others):
    """A network whose body trains at a tenth of its head's rate."""
    model = model or net()
    inside = MultiOptimizer(OptimizerMap(head or SGD(0.1), {BODY: body or SGD(0.01), **others}))
    model.compile(LossScaleOptimizer(inside) if wrapped else inside, "mse")
    return model


class Seen(keras.callbacks.Callback):
    """What the optimizers' rates are after each batch; how far the weights went in it."""

    def __init__(self):
        super().__init__()
        self.rates, self.steps = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.before = [np.array(w) for w in self.model.get_weights()]

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append([optimizers.rate(o) for o in optimizers.parts(self.model.optimizer)])
        after = self.model.get_weights()
        self.steps.append(
            [np.abs(a - b).max() for a, b in zip(after, self.before, strict=True)],
        )


def fit(model, *callbacks, epochs=1, x=X, y=Y, **options):
    return model.fit(
        x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks],
        **options,
    )  # fmt: skip


def expected(policy, shares, count):
    highest = policy.rate(np.arange(count))
    return np.outer(highest, shares).astype("float32")


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("made", [
    lambda: CyclicLR(0.01, 0.2, step_size=4),
    lambda: OneCycleLR(0.2),
], ids=["cyclic", "one cycle"])  # fmt: skip
def test_each_moves_in_proportion_to_its_own_rate(made, wrapped):
    model, seen, cycle = compiled(wrapped=wrapped), Seen(), made()
    history = fit(model, cycle, seen, epochs=2).history
    np.testing.assert_allclose(seen.rates, expected(cycle.policy, [0.1, 1], 16), rtol=1e-6)
    np.testing.assert_allclose(cycle.history["lr"], np.array(seen.rates)[:, 1], rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], [cycle.history["lr"][i] for i in (7, 15)])


def test_the_layers_are_trained_with_these_rates_and_no_others():
    model, seen = compiled(), Seen()
    apart = net()
    apart.compile(MultiOptimizer(lambda variable: SGD(0.0)), "mse")
    apart.optimizer.build(apart.trainable_variables)
    twice = CyclicLR(0.01, 0.2, step_size=4)
    fit(model, twice, seen)
    fit(apart, ByHand(seen.rates))
    for one, other in zip(model.get_weights(), apart.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


class ByHand(keras.callbacks.Callback):
    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def on_train_batch_begin(self, batch, logs=None):
        own = np.repeat(self.rates[batch], 2)
        for part, rate in zip(optimizers.parts(self.model.optimizer), own, strict=True):
            part.learning_rate.assign(rate)


def test_a_second_fit_and_a_second_callback_keep_the_proportion():
    model, seen = compiled(), Seen()
    cycle = CyclicLR(0.0, 0.2, step_size=4)
    for callback in (cycle, cycle, OneCycleLR(0.3), copy.deepcopy(cycle)):
        fit(model, pickle.loads(pickle.dumps(callback)) if callback is cycle else callback, seen)
    found = np.array(seen.rates)
    assert len(found) == 32
    np.testing.assert_allclose(found[:, 0], found[:, 1] / 10, rtol=1e-6)


def test_optimizers_of_several_kinds_one_of_them_at_rate_0():
    model, seen = compiled(body=Adam(0.0), head=SGD(0.1)), Seen()
    fit(model, CyclicLR(0.01, 0.2, step_size=4), seen)
    assert not np.array(seen.rates)[:, 0].any()
    assert not np.array(seen.steps)[:, :2].any()
    assert np.array(seen.steps)[:, 2:].all()


def test_one_that_has_no_variables_does_not_count():
    """A default that is not needed, even with the highest rate."""
    model, seen = compiled(head=SGD(5.0), **{HEAD: SGD(0.1)}), Seen()
    fit(model, CyclicLR(0.01, 0.2, step_size=4), seen)
    np.testing.assert_allclose(max(np.array(seen.rates)[:, 1]), 0.2)
    assert len(seen.rates[0]) == 2


def test_frozen_layers_and_a_frozen_variable():
    model, seen = net(), Seen()
    model.get_layer("body").trainable = False
    fit(compiled(model), CyclicLR(0.01, 0.2, step_size=4), seen)
    np.testing.assert_allclose(max(seen.rates), [0.2])
    assert not np.array(seen.steps)[:, :2].any()
    model, seen = net(), Seen()
    model.get_layer("body").bias.trainable = False
    fit(compiled(model), CyclicLR(0.01, 0.2, step_size=4), seen)
    np.testing.assert_allclose(max(seen.rates), [0.02, 0.2])
    assert (np.array(seen.steps).any(0) == [True, False, True, True]).all()


def test_a_pattern_that_fits_nothing_draws_a_warning_with_the_path():
    model = net()
    with pytest.warns(UserWarning, match=r"pattern 'body/\.\*'.*sequential.*'\.\*body/\.\*'"):
        fit(compiled(model, **{"body/.*": SGD(0.01)}), CyclicLR(0.01, 0.2, step_size=4))


def test_a_schedule_inside_is_refused():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    for test in (
        lambda model: fit(model, CyclicLR(0.01, 0.2, step_size=4)),
        lambda model: lr_range_test(model, X, Y, verbose=0),
    ):
        with pytest.raises(
            ValueError, match=r"fixed learning_rate.*one of a MultiOptimizer, built"
        ):
            test(compiled(body=SGD(schedule)))


@pytest.mark.parametrize("rate", [0.0, -0.1, np.nan])
def test_rates_that_have_no_proportion_are_refused(rate):
    model = compiled(body=SGD(rate), head=SGD(0.0))
    with pytest.raises(ValueError, match=r"rate.* must be .*Received: learning_rate="):
        fit(model, CyclicLR(0.01, 0.2, step_size=4))


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="Others build a model before a callback sees it"
)
def test_a_model_without_variables_is_refused_with_the_remedy():
    model = compiled(net(inputs=False))
    with pytest.raises(ValueError, match=r"Build the model first.*which is not built"):
        fit(model, CyclicLR(0.01, 0.2, step_size=4))
    model.build((None, 4))
    fit(model, CyclicLR(0.01, 0.2, step_size=4))


def test_a_function_that_chooses_makes_the_optimizers_as_it_is_asked():
    model, seen = net(), Seen()
    model.compile(MultiOptimizer(lambda v: SGD(0.01 if "body" in v.path else 0.1)), "mse")
    fit(model, CyclicLR(0.01, 0.2, step_size=4), seen)
    np.testing.assert_allclose(max(seen.rates), [0.02, 0.02, 0.2, 0.2])


def test_another_hand_on_one_of_them_is_refused():
    model, cycle = compiled(), CyclicLR(0.01, 0.2, step_size=4)

    def meddle(epoch, logs):
        optimizers.parts(model.optimizer)[0].learning_rate.assign(0.5)

    with pytest.raises(ValueError, match=r"something else.*Received: learning_rate=0\.5 and 0\."):
        fit(model, cycle, keras.callbacks.LambdaCallback(on_epoch_end=meddle), epochs=2)


def test_gradients_are_accumulated_over_the_same_number_or_refused():
    def made(head):
        body = SGD(0.01, gradient_accumulation_steps=2)
        return compiled(body=body, head=SGD(0.1, gradient_accumulation_steps=head))

    model, seen, cycle = made(2), Seen(), CyclicLR(0.01, 0.2, step_size=2)
    fit(model, cycle, seen)
    policy = cycle.policy.rate(np.arange(8) // 2)
    np.testing.assert_allclose(np.array(seen.rates)[:, 1], policy, rtol=1e-6)
    assert cycle.clr_iterations == 4
    with pytest.raises(ValueError, match=r"same number.*gradient_accumulation_steps=\[2, 4\]"):
        fit(made(4), cycle)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's graph counts a batch too many")
def test_data_of_unknown_length_keep_every_count_right():
    model, cycle = compiled(), CyclicLR(0.01, 0.2, step_size=4)

    def batches():
        yield from ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 64, 8))

    import tensorflow as tf

    signature = tuple(tf.TensorSpec((None, n)) for n in (4, 2))
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[cycle])
    counted = [model.optimizer, *optimizers.parts(model.optimizer)]
    assert [int(keras.ops.convert_to_numpy(o.iterations)) for o in counted] == [24] * 3


def state(model):
    found = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in found]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_range_test_moves_them_together_and_puts_everything_back(wrapped):
    model, seen = compiled(wrapped=wrapped), []
    fit(model, CyclicLR(0.01, 0.1, step_size=4))
    before = state(model)
    original = rates.RatesTogether.set

    def spied(self, model, tensor):
        original(self, model, tensor)
        seen.append([optimizers.rate(part) for part in optimizers.parts(model.optimizer)])

    rates.RatesTogether.set = spied
    try:
        result = lr_range_test(model, X, Y, batch_size=8, start_lr=1e-4, num_steps=60, verbose=0)
    finally:
        rates.RatesTogether.set = original
    rise = np.array(seen[: len(result.lrs)])
    np.testing.assert_allclose(rise[:, 1], result.lrs, rtol=1e-6)
    np.testing.assert_allclose(rise[:, 0], np.array(result.lrs) / 10, rtol=1e-6)
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert result.config["optimizer"] == "MultiOptimizer"
    assert result.config["default_lr"] == 0.01  # SGD's.
    fit(model, result.one_cycle(max_lr=0.1))


def test_a_range_test_builds_what_is_not_built():
    result = lr_range_test(compiled(net(inputs=False)), X, Y, num_steps=30, trials=0, verbose=0)
    assert result.lrs


POLICY = policies.CyclicPolicy(0.01, 0.2, step_size=4, base_momentum=0.5, max_momentum=0.9)


def test_every_momentum_cycles_and_is_constant_afterwards():
    model = compiled(body=SGD(0.01, momentum=0.7), head=Adam(0.1))
    plain = compiled(body=SGD(0.01, momentum=0.7), head=Adam(0.1))
    bounds = {"base_momentum": 0.5, "max_momentum": 0.9}
    cycle = CyclicLR(0.01, 0.2, step_size=4, cycle_momentum=True, **bounds)
    fit(model, cycle)
    np.testing.assert_allclose(cycle.history["momentum"], POLICY.momentum(np.arange(8)))
    fit(plain, CyclicLR(0.01, 0.2, step_size=4))
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        assert not np.allclose(one, other, rtol=1e-4)
    assert [o.momentum if hasattr(o, "momentum") else o.beta_1 for o in parts(model)] == [0.7, 0.9]
    assert not any("apply" in vars(part) for part in parts(model))


def parts(model):
    return optimizers.parts(model.optimizer)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_cycled_momentum_is_that_of_the_single_optimizer(kind):
    """With equal rates, several optimizers of one kind are one."""
    momentum = {"momentum": 0.9} if kind == "SGD" else {}

    def one():
        return getattr(keras.optimizers, kind)(0.1, **momentum)

    several, single = compiled(body=one(), head=one()), net()
    single.compile(one(), "mse")
    for model in (several, single):
        fit(model, OneCycleLR(0.05, cycle_momentum=True), epochs=2)
    for a, b in zip(several.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_an_optimizer_trained_before_follows_the_same_momentum():
    def trained(updates):
        body, head = SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9)
        model = compiled(body=body, head=head)
        body._iterations.assign(updates)
        fit(model, OneCycleLR(0.05, cycle_momentum=True))
        return model.get_weights()

    for a, b in zip(trained(0), trained(1000), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_one_without_a_momentum_is_refused_and_none_is_left_cycling():
    model = compiled(body=SGD(0.01, momentum=0.9), head=SGD(0.1))
    with pytest.raises(ValueError, match=r"must have a momentum to cycle.*cycle_momentum=False"):
        fit(model, OneCycleLR(0.1, cycle_momentum=True))
    assert not any("apply" in vars(part) for part in parts(model))
    with pytest.raises(ValueError, match=r"optimizer\.build\("):
        cycle_momentum(MultiOptimizer(lambda variable: SGD(0.1, momentum=0.9)), POLICY)


def test_a_saved_model_goes_on_in_proportion(tmp_path):
    model, seen = compiled(), Seen()
    fit(model, CyclicLR(0.01, 0.2, step_size=4))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    fit(loaded, CyclicLR(0.01, 0.2, step_size=4), seen)
    np.testing.assert_allclose(max(seen.rates), [0.02, 0.2], rtol=1e-6)

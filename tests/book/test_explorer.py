"""The policy explorer: its copy of the formula, and its page in a real browser."""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

import clr
from clr.policies import CyclicPolicy, OneCyclePolicy
from clr.range_test import RangeTest

SITE = Path(__file__).resolve().parents[2] / "_build" / "site"
PAGE = SITE / "book" / "explorer.html"
POLICIES = ("triangular", "triangular2", "exp_range", "one_cycle", "cosine")
CYCLIC = POLICIES[:3]
ONE_CYCLE = ("pct_start", "div_factor", "final_div_factor", "anneal_strategy", "three_phase")
RECORD = "bounds/digits-mlp_norm-momentum"  # The range test that the page draws.
EXPERIMENT = clr.Experiment()

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="no site: make book renders it")


@pytest.fixture
def page(open_tab):
    """The page as a reader opens it from the folder; it may ask for files, and has no complaint."""
    tab, requests, complaints = open_tab(viewport={"width": 1280, "height": 800})
    tab.goto(PAGE.as_uri())
    yield tab
    tab.close()
    assert [url for url in requests if not url.startswith("file:")] == []
    assert complaints == []


def some_settings(count: int) -> list[dict]:
    """What a reader might type, all policies in turn; few training sets hold only full batches."""
    chance = random.Random(0)
    settings = []
    for number in range(count):
        batch_size = chance.randint(1, 512)
        base_lr = chance.choice([0.0, 10 ** chance.uniform(-8, -1)])
        epochs, examples = chance.randint(4, 200), chance.randint(batch_size, 100_000)
        pct_start = chance.uniform(1.1 / epochs, chance.choice([0.5, 0.95]))
        settings.append(
            {
                "policy": POLICIES[number % len(POLICIES)],
                "base_lr": base_lr,
                "max_lr": base_lr + 10 ** chance.uniform(-6, 1),
                "step_size": chance.randint(1, 20),
                "gamma": chance.choice([0.5, 1 - 10 ** chance.uniform(-9, -1)]),
                "warmup": chance.randrange(epochs),
                "pct_start": pct_start,
                "div_factor": 10 ** chance.uniform(0, 3),
                "final_div_factor": 10 ** chance.uniform(0, 5),
                "anneal_strategy": chance.choice(["cos", "linear"]),
                "three_phase": pct_start <= 0.5 and chance.choice([True, False]),
                "epochs": epochs,
                "batch_size": batch_size,
                "examples": examples,
            }
        )
    return settings


@dataclass
class Cosine:
    """Keras's own `CosineDecay`."""

    base_lr: float
    max_lr: float
    warmup: int
    cycle_length: int

    def rate(self, iteration: int) -> float:
        schedule = keras.optimizers.schedules.CosineDecay(
            self.base_lr if self.warmup else self.max_lr,
            decay_steps=self.cycle_length - self.warmup,
            alpha=self.base_lr / self.max_lr,
            warmup_target=self.max_lr if self.warmup else None,
            warmup_steps=self.warmup,
        )
        return float(schedule(iteration))


def exactness(settings: dict) -> float:
    """How near the drawing is to the policy, in shares of `max_lr`: Keras has single precision."""
    return 1e-6 if settings["policy"] == "cosine" else 1e-12


def policy_of(s: dict) -> CyclicPolicy | OneCyclePolicy | Cosine:
    """The policy that a reader's settings mean."""
    steps = s["examples"] // s["batch_size"]
    if s["policy"] == "one_cycle":
        arguments = {name: s[name] for name in ONE_CYCLE}
        return OneCyclePolicy(s["max_lr"], s["epochs"] * steps, **arguments)
    if s["policy"] == "cosine":
        return Cosine(s["base_lr"], s["max_lr"], s["warmup"] * steps, s["epochs"] * steps)
    gamma = s["gamma"] if s["policy"] == "exp_range" else 1.0
    return CyclicPolicy(s["base_lr"], s["max_lr"], s["step_size"] * steps, s["policy"], gamma)


def type_in(page, settings: dict) -> None:
    page.check(f"input[value={settings['policy']}]")
    for name, value in settings.items():
        field = page.locator(f".fields [name={name}]")
        if name == "policy" or not field.is_visible():
            continue
        if name in ("anneal_strategy", "three_phase"):
            field.select_option(str(value))
        else:
            field.fill(str(value))


def drawing(page) -> str:
    return page.locator("#explorer .rate").get_attribute("points")


def scale(page, axis: str, place: str, shift: float):
    """Reads an axis as an eye does, by its first and last mark: from a place to a value."""
    marks = page.locator(f"#explorer svg text.{axis}").evaluate_all(
        f"marks => marks.map(m => [Number(m.getAttribute('{place}')), Number(m.textContent)])"
    )
    (start, low), (end, high) = marks[0], marks[-1]
    return lambda at: low + (at - start - shift) / (end - start) * (high - low)


# --- the formula ----------------------------------------------------------------------------------


def test_the_formula_is_the_packages(page):
    chance, cases, right = random.Random(1), [], []
    for settings in some_settings(200):
        policy = policy_of(settings)
        steps = settings["examples"] // settings["batch_size"]
        length = policy.cycle_length
        given = {**settings, "step_size": settings["step_size"] * steps}
        given["total_steps"] = settings["epochs"] * steps
        given["warmup"] = settings["warmup"] * steps
        turns = [0, 1, length // 2, length - 1, length, length + 1]
        for i in [*turns, *(chance.randrange(5 * length) for _ in range(5)), 10**9, 10**9 + 7]:
            cases.append([given, i])
            right.append(float(policy.rate(i)))
    rates = page.evaluate("cases => cases.map(([s, i]) => clrExplorer.rate(s, i))", cases)
    for (given, i), rate, expected in zip(cases, rates, right, strict=True):
        assert abs(rate - expected) <= exactness(given) * given["max_lr"], (given, i)


# --- the page -------------------------------------------------------------------------------------


def test_the_first_settings_are_the_experiments(page):
    def value(name):
        return float(page.input_value(f"input[name={name}]"))

    assert page.is_checked(f"input[value={EXPERIMENT.clr_method}]")
    assert value("base_lr") == EXPERIMENT.min_lr
    assert value("epochs") == EXPERIMENT.num_epochs
    for name in ("max_lr", "step_size", "gamma", "batch_size"):
        assert value(name) == getattr(EXPERIMENT, name)
    defaults = OneCyclePolicy(0.01, 100)
    for name in ONE_CYCLE:
        assert page.input_value(f".fields [name={name}]") in {
            str(getattr(defaults, name)),
            f"{getattr(defaults, name):g}" if "factor" in name else "",
        }


@pytest.mark.parametrize("settings", some_settings(10), ids=lambda s: s["policy"])
def test_the_curve_is_the_policys_by_the_axes(page, settings):
    type_in(page, settings)
    steps, policy = settings["examples"] // settings["batch_size"], policy_of(settings)
    # A mark of the vertical axis stands four pixels below the height that it names.
    epoch_at, rate_at = scale(page, "x", "x", 0), scale(page, "y", "y", -4)
    points = [tuple(map(float, point.split(","))) for point in drawing(page).split()]
    iterations = [epoch_at(x) * steps for x, _ in points]
    assert iterations[0] == pytest.approx(0, abs=1e-6)
    assert iterations[-1] == pytest.approx(settings["epochs"] * steps)
    for i, (_, y) in zip(iterations, points, strict=True):
        assert i == pytest.approx(round(i), abs=1e-4)
        assert rate_at(y) == pytest.approx(
            policy.rate(round(i)), abs=max(1e-9, exactness(settings)) * settings["max_lr"]
        )
    if settings["policy"] == "cosine":
        assert settings["warmup"] * steps in set(map(round, iterations))
    if settings["policy"] in CYCLIC:  # No turn is cut off.
        turns = range(0, settings["epochs"] * steps + 1, settings["step_size"] * steps)
        assert set(turns) <= set(map(round, iterations))


def test_cycles_are_counted_and_a_cut_one_is_named_with_its_remedy(page):
    summary = page.locator("#explorer .summary")
    assert "6 whole cycles of 16 epochs" in summary.inner_text()
    assert page.locator("#explorer svg .cycle").all_text_contents() == list("123456")
    page.fill("input[name=epochs]", "100")
    assert "stop in mid-cycle, 4 epochs into the next" in summary.inner_text()
    assert "96 or 112 epochs" in summary.inner_text()
    page.fill("input[name=epochs]", "5")
    assert "Whole cycles take 16 epochs" in summary.inner_text()
    page.check("input[value=one_cycle]")
    assert "One cycle over 5 epochs" in summary.inner_text()
    type_in(page, {"policy": "cosine", "warmup": 1})
    assert "1 epoch of warm-up, then one fall over 4 epochs" in summary.inner_text()
    page.fill("input[name=warmup]", "0")
    assert "One fall over 5 epochs" in summary.inner_text()


def test_what_is_drawn_is_said_in_words(page):
    type_in(page, {"policy": "triangular2", "max_lr": 0.02, "epochs": 100})
    label = page.locator("#explorer").get_by_role("img").get_attribute("aria-label")
    for words in ("triangular2", "100 epochs", "at most 0.02", "6 whole cycles", "mid-cycle"):
        assert words in label


def test_the_fields_say_what_follows_from_them(page):
    def note(name):
        return page.inner_text(f"#x-{name}-note")

    type_in(page, {"policy": "exp_range", "examples": 1797, "batch_size": 32, "epochs": 16})
    assert "448 iterations" in note("step_size")  # 8 * (1797 // 32)
    assert "896 iterations" in note("epochs")
    assert "56 full batches" in note("batch_size")
    assert "5 examples" in note("examples")
    assert f"Leaves {100 * 0.99994**896:.0f}%" in note("gamma")
    tenth = float(re.search(r"([\d.]+) would leave 10%", note("gamma"))[1])
    assert tenth**896 == pytest.approx(0.1, rel=0.01)


def test_the_keyboard_alone_changes_the_drawing(page):
    before = drawing(page)
    page.keyboard.press("Tab")
    for _ in range(80):
        if page.evaluate("document.activeElement.name") == "policy":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[value=triangular2]")
    assert (halved := drawing(page)) != before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "base_lr"
    page.keyboard.type("0.005")  # A field that is reached by Tab is selected whole.
    assert (raised := drawing(page)) != halved
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert page.input_value("input[name=step_size]") == "9"
    assert drawing(page) != raised
    page.evaluate("() => { document.forms.explorer.onsubmit = () => console.error('sent') }")
    page.keyboard.press("Enter")  # Sends nothing.


class Taught:
    """Stands in for a compiled model, and keeps what `fit` is called with."""

    def __init__(self):
        self.optimizer = keras.optimizers.SGD()

    def fit(self, x, y, **options):
        self.x, self.options = x, options


@pytest.mark.parametrize("clipboard", ["as it is", "absent"])
@pytest.mark.parametrize("settings", some_settings(10), ids=lambda s: s["policy"])
def test_the_copied_lines_make_the_callback(page, settings, clipboard):
    if clipboard == "absent":
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.body.prepend(document.createElement('textarea'))")
    page.fill("textarea", "what was copied before")
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+X")
    type_in(page, settings)
    page.click("#explorer button")
    page.wait_for_function(
        "document.querySelector('#explorer [role=status]').textContent === 'Copied.'"
    )
    page.focus("textarea")
    page.keyboard.press("Control+V")
    model, x = Taught(), range(settings["examples"])
    names = {"model": model, "x": x, "y": x}
    exec(page.input_value("textarea"), names)
    if settings["policy"] == "cosine":
        policy = policy_of(settings)
        for part in range(8):
            i = part * policy.cycle_length // 7
            model.optimizer.iterations.assign(i)
            rate = float(model.optimizer.learning_rate)
            assert rate == pytest.approx(policy.rate(i), rel=1e-4, abs=1e-6 * policy.max_lr)
    else:
        (cycle,) = model.options["callbacks"]
        assert isinstance(cycle, (clr.CyclicLR, clr.OneCycleLR))
        assert cycle.policy == policy_of(settings)
    assert model.options["batch_size"] == settings["batch_size"]
    assert model.options["epochs"] == settings["epochs"]
    steps = settings["examples"] // settings["batch_size"]
    assert len(model.x) == steps * settings["batch_size"]


@pytest.mark.parametrize(
    "name, typed, answer",
    [
        ("max_lr", "", "max_lr must be a number, such as 0.01 or 1e-2."),
        ("max_lr", "0,01", "max_lr must be a number, such as 0.01 or 1e-2."),
        ("max_lr", "1e-9", "max_lr must be at least base_lr."),
        ("max_lr", "1e300", "max_lr must be at most 1,000."),
        ("max_lr", "<b>", "max_lr must be a number, such as 0.01 or 1e-2."),
        ("base_lr", "-1", "base_lr must be at least 0."),
        ("gamma", "0", "gamma must be in (0, 1]."),
        ("gamma", "1.1", "gamma must be in (0, 1]."),
        ("step_size", "0", "step_size must be at least 1."),
        ("epochs", "", "epochs must be a whole number."),
        ("epochs", "99999", "epochs must be at most 10,000."),
        ("batch_size", "32.5", "batch_size must be a whole number."),
        (
            "batch_size",
            "50001",
            "batch_size must be at most examples: an epoch needs a full batch.",
        ),
        ("examples", "1e99", "examples must be at most 1,000,000,000."),
    ],
)
def test_bad_input_is_named_beside_its_field_and_the_drawing_stays(page, name, typed, answer):
    type_in(page, {"policy": "exp_range"})
    before, lines = drawing(page), page.inner_text("#explorer pre")
    field = page.locator(f"input[name={name}]")
    field.fill(typed)
    assert page.locator(f"#{field.get_attribute('aria-describedby')}").inner_text() == answer
    assert field.get_attribute("aria-invalid") == "true"
    assert page.locator("#explorer [aria-invalid=true]").count() == 1
    assert answer in page.inner_text("#explorer [aria-live=polite]")
    assert drawing(page) == before
    assert page.inner_text("#explorer pre") == lines
    page.locator("input[value=one_cycle]").check()  # Fields of other policies are not judged.
    left = {"max_lr", "epochs", "batch_size", "examples"} & {name}
    visible = page.locator("#explorer [aria-invalid=true]:visible")
    assert visible.count() == (len(left) if answer != "max_lr must be at least base_lr." else 0)


@pytest.mark.parametrize(
    "policy, name, typed, answer",
    [
        ("one_cycle", "pct_start", "0", "pct_start must be in (0, 1)."),
        ("one_cycle", "pct_start", "1", "pct_start must be in (0, 1)."),
        ("one_cycle", "div_factor", "0.5", "div_factor must be at least 1."),
        ("one_cycle", "final_div_factor", "0", "final_div_factor must be at least 1."),
        ("cosine", "warmup", "-1", "warmup must be at least 0."),
        ("cosine", "warmup", "96", "warmup must be below epochs."),
        ("cosine", "warmup", "1.5", "warmup must be a whole number."),
    ],
)
def test_bad_arguments_of_one_policy_are_named_under_it_alone(page, policy, name, typed, answer):
    page.check(f"input[value={policy}]")
    before = drawing(page)
    page.fill(f"input[name={name}]", typed)
    assert page.inner_text(f"#x-{name}-note") == answer
    assert page.get_attribute(f"input[name={name}]", "aria-invalid") == "true"
    assert drawing(page) == before
    page.check("input[value=triangular]")
    assert page.locator("#explorer [aria-invalid=true]").count() == 0


def test_three_phases_leave_half_of_the_training_to_rise_in(page):
    type_in(page, {"policy": "one_cycle", "pct_start": 0.6})
    assert page.locator("#explorer [aria-invalid=true]").count() == 0
    page.select_option("select[name=three_phase]", "True")
    assert (
        page.inner_text("#x-pct_start-note") == "pct_start must be in (0, 0.5] with three phases."
    )
    with pytest.raises(ValueError, match=r"at most 0\.5 with three_phase"):
        OneCyclePolicy(0.01, 1000, pct_start=0.6, three_phase=True)


def test_a_training_too_short_to_rise_in_is_named(page):
    type_in(page, {"policy": "one_cycle", "batch_size": 50_000, "epochs": 4})
    assert page.locator("#explorer [aria-invalid=true]").count() == 0
    page.fill("input[name=epochs]", "3")
    assert page.get_attribute("input[name=epochs]", "aria-invalid") == "true"
    with pytest.raises(ValueError, match="leave each phase an iteration"):
        OneCyclePolicy(0.01, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 10_000, "step_size": 1, "examples": 10**9, "batch_size": 1},
        {"epochs": 1, "step_size": 10_000, "examples": 1, "batch_size": 1},
        {"base_lr": 0, "max_lr": 1e-12},
        {"base_lr": 0.1, "max_lr": 0.1},
    ],
    ids=["largest", "smallest", "lowest", "level"],
)
def test_the_ends_of_the_ranges_are_drawn(page, settings):
    for policy in CYCLIC:
        type_in(page, {"policy": policy, **settings})
        assert page.locator("#explorer [aria-invalid=true]").count() == 0
        assert "NaN" not in page.inner_html("#explorer svg")
        for axis in "xy":
            assert 2 <= page.locator(f"#explorer svg text.{axis}").count() <= 13


def test_the_link_brings_the_settings_back(page):
    settings = some_settings(3)[2]
    type_in(page, settings)
    drawn = drawing(page)
    page.click("#explorer .actions a")
    page.wait_for_function("location.hash.includes('policy=exp_range')")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert drawing(page) == drawn
    page.goto("about:blank")
    page.goto(PAGE.as_uri() + "#policy=none&nothing=1&epochs=%3Cb%3E")
    assert page.is_checked("input[value=triangular]")
    assert page.get_attribute("input[name=epochs]", "aria-invalid") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_ink_is_the_pages(open_tab, scheme):
    tab, *_ = open_tab(color_scheme=scheme)
    tab.goto(PAGE.as_uri())
    ink = tab.locator("#explorer svg text").first.evaluate("e => getComputedStyle(e).fill")
    text = tab.locator(".bd-article p").first.evaluate("e => getComputedStyle(e).color")
    assert ink == text
    assert tab.locator("html").get_attribute("data-theme") == scheme
    tab.close()


def test_a_telephone_shows_it_whole_with_room_for_a_finger(open_tab):
    tab, *_ = open_tab(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    tab.goto(PAGE.as_uri() + "#policy=exp_range&step_size=5&epochs=10000&max_lr=0.00025")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    fields = ":is(.policies label, .fields input, .fields select, button, .actions a)"
    for policy, number in [("one_cycle", 9), ("cosine", 6), ("exp_range", 7)]:
        tab.locator(f"input[value={policy}]").check()
        heights = tab.locator(f"#explorer {fields}:visible").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().height)"
        )
        assert len(heights) == len(POLICIES) + number + 2
        assert min(heights) >= 44
    # No letter of the drawing is cut off, and it redraws itself where there is more room.
    box = tab.locator("#explorer svg").bounding_box()
    texts = "all => all.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right])"
    for left, right in tab.locator("#explorer svg text:not(:empty)").evaluate_all(texts):
        assert left >= box["x"]
        assert right <= box["x"] + box["width"]
    before = drawing(tab)
    tab.set_viewport_size({"width": 740, "height": 360})
    tab.wait_for_function(
        "before => document.querySelector('#explorer .rate').getAttribute('points') !== before",
        arg=before,
    )
    before = drawing(tab)
    tab.locator("input[value=one_cycle]").tap()
    assert drawing(tab) != before
    tab.close()


def test_without_javascript_a_sentence_says_so(open_tab):
    tab, *_ = open_tab(java_script_enabled=False)
    tab.goto(PAGE.as_uri())
    assert "JavaScript" in tab.inner_text("noscript")
    assert not tab.is_visible("#explorer")
    tab.close()


def test_every_field_has_its_label(page):
    labels = page.locator("#explorer .fields :is(input, select)").evaluate_all(
        "fields => fields.map(field => [field.name, field.labels[0].textContent.split(' ')[0]])"
    )
    assert len(labels) == 13
    assert all(name == label for name, label in labels)
    assert page.get_by_role("group", name="Policy").get_by_role("radio").count() == len(POLICIES)


# --- the range test -------------------------------------------------------------------------------


def drawn_test(page) -> dict:
    return json.loads(page.locator("#range-test").text_content())


def test_the_range_test_is_the_record_and_its_bounds_are_the_packages(page):
    drawn, record = drawn_test(page), clr.recorded_benchmark(RECORD)["curves"][0]
    config = record["config"]
    assert drawn["losses"] == [float(f"{loss:.4g}") for loss in record["losses"]]
    assert {name: drawn[name] for name in ("start_lr", "end_lr", "num_steps")} == {
        name: config[name] for name in ("start_lr", "end_lr", "num_steps")
    }
    lrs = np.geomspace(config["start_lr"], config["end_lr"], config["num_steps"]).tolist()
    result = RangeTest(lrs, drawn["losses"], None, record["stopped"], True, config)
    suggestion = result.suggest("edge")
    assert suggestion.warning is None
    assert drawn["average"] == [float(f"{loss:.4g}") for loss in result.averaged[1]]
    right = {"base_lr": suggestion.base_lr, "max_lr": suggestion.max_lr}
    right |= {name: suggestion.marks[name] for name in ("low", "edge")}
    assert {name: drawn[name] for name in right} == {n: float(f"{v:.3g}") for n, v in right.items()}
    assert suggestion.max_lr == pytest.approx(suggestion.marks["edge"] / 3)  # As the text says.


def test_the_marks_stand_where_their_rates_are(page):
    drawn = drawn_test(page)
    marks = page.locator("#suggestion text.x").evaluate_all(
        "marks => marks.map(m => [Number(m.getAttribute('x')), Number(m.textContent)])"
    )
    (start, low), (end, high) = marks[0], marks[-1]

    def rate_at(x):
        return low * (high / low) ** ((x - start) / (end - start))

    bounds = page.locator("#suggestion .bound").evaluate_all(
        "all => all.map(e => +e.getAttribute('x1'))"
    )
    signs = page.locator("#suggestion .sign").evaluate_all(
        "all => all.map(e => +e.getAttribute('cx'))"
    )
    found = dict(
        zip(("base_lr", "max_lr", "low", "edge"), map(rate_at, bounds + signs), strict=True)
    )
    assert found == {name: pytest.approx(drawn[name], rel=1e-6) for name in found}
    points = page.locator("#suggestion .batches").get_attribute("points").split()
    assert len(points) == len(drawn["losses"])
    assert rate_at(float(points[-1].split(",")[0])) == pytest.approx(drawn["end_lr"])
    label = page.locator("#suggestion").get_by_role("img").get_attribute("aria-label")
    assert all(str(drawn[name]) in label for name in found)


def test_its_bounds_can_be_drawn(page):
    drawn, before = drawn_test(page), drawing(page)
    page.click("#suggestion button")
    assert float(page.input_value("input[name=base_lr]")) == drawn["base_lr"]
    assert float(page.input_value("input[name=max_lr]")) == drawn["max_lr"]
    assert drawing(page) != before

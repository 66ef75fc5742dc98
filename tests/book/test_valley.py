"""The figure to play with in chapter 1: it computes what the notebook does, and all can use it."""

import ast
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

import clr

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "site"
PAGE = SITE / "notebooks" / "01_why_cyclical.html"
CODE = [
    cell.source
    for cell in nbformat.read(ROOT / "notebooks" / "01_why_cyclical.ipynb", as_version=4).cells
    if cell.cell_type == "code"
]
NAMES = ("constant", "cosine", "cycle")
GIVEN = {
    "min_lr": 0.005,
    "max_lr": 0.5,
    "step_size": 100,
    "num_steps": 1000,
    "noise": 1.0,
    "runs": 200,
    "seed": 1,
    "stop": 400,
}
OTHERS = [
    {},
    {"stop": 1000},
    {"stop": 510, "max_lr": 1.5, "min_lr": 0.0, "noise": 2.0, "step_size": 60},
    {"noise": 0.0, "step_size": 250, "num_steps": 1500, "runs": 3, "seed": 2**31},
]

needs_site = pytest.mark.skipif(not PAGE.is_file(), reason="no site: make book renders it")


def computed(settings: dict) -> dict:
    """What the notebook's own cells compute for other parameters."""
    names: dict = {"np": np, "clr": clr}
    for name, value in settings.items():
        names[name.upper()] = value
    for part in ("def random_numbers(", "def lowest("):
        (cell,) = [source for source in CODE if part in source]
        # Where the figure begins is the notebook's choice.
        body = [s for s in ast.parse(cell).body if not ast.unparse(s).startswith("STOP =")]
        exec("\n".join(map(ast.unparse, body)), names)
    return names


@pytest.fixture
def page(open_tab):
    """The page as a reader opens it from the folder; it may ask for files, and has no complaint."""
    tab, requests, complaints = open_tab(viewport={"width": 1280, "height": 900})
    tab.goto(PAGE.as_uri())
    yield tab
    tab.close()
    assert [url for url in requests if not url.startswith("file:")] == []
    assert complaints == []


def said(page) -> str:
    return page.inner_text("#valley [aria-live=polite]")


def move(page, name: str, value: float) -> None:
    page.evaluate(
        """([name, value]) => {
            const field = document.querySelector(`#valley [name=${name}]`);
            field.value = value;
            field.dispatchEvent(new Event('input', { bubbles: true }));
        }""",
        [name, value],
    )


# --- the computation ------------------------------------------------------------------------------


@needs_site
def test_the_random_numbers_are_the_notebooks(page):
    for seed in (0, 1, 2**31, 2**32 - 1):
        drawn = page.evaluate(
            "seed => { const next = clrValley.generator(seed); "
            "return Array.from({ length: 1000 }, next); }",
            seed,
        )
        assert drawn == computed(GIVEN)["random_numbers"](seed, 1000).tolist()


@needs_site
@pytest.mark.parametrize("changed", OTHERS, ids=str)
def test_the_figure_computes_what_the_notebook_does(page, changed):
    settings = GIVEN | changed
    names = computed(settings)
    given = settings | {
        "start": names["START"].tolist(),
        "curvatures": names["CURVATURES"].tolist(),
    }
    result, best = page.evaluate(
        "set => { const result = clrValley.simulate(set); "
        "for (const of of Object.values(result.found)) { delete of.x; delete of.y; } "
        "return [result, clrValley.lowest(result.found)]; }",
        given,
    )
    stop = settings["stop"]
    for name in NAMES:
        found, points, losses = result["found"][name], names["points"][name], names["losses"][name]
        near = {"rtol": 1e-11, "atol": 1e-13}
        np.testing.assert_allclose(result["rates"][name], names["rates"][name], **near)
        np.testing.assert_allclose(found["places"], points[stop], **near)
        np.testing.assert_allclose(found["path"], points[: stop + 1, 0], **near)
        np.testing.assert_allclose(found["losses"], losses[stop], **near)
        np.testing.assert_allclose(found["means"], losses.mean(axis=1), **near)
    assert best == names["lowest"](names["losses"], stop)


def test_each_rate_has_its_methods_colour_and_the_grey_is_seen_on_light_and_dark():
    css = (ROOT / "book" / "_static" / "valley.css").read_text()
    colours = dict(re.findall(r"--(\w+): (#\w+);", css))
    assert colours["cosine"] == clr.plots.COLOURS["cosine"]
    assert colours["cycle"] == clr.plots.COLOURS["triangular"]
    grey = int(colours["constant"][1:3], 16)
    assert colours["constant"] == f"#{3 * f'{grey:02x}'}"
    shine = ((grey / 255 + 0.055) / 1.055) ** 2.4
    assert 1.05 / (shine + 0.05) > 3 and (shine + 0.05) / 0.057 > 3  # White; the theme's #14181e.


def test_the_noise_has_mean_0_and_variance_1_and_the_rates_one_mean():
    names = computed(GIVEN)
    assert names["NOISES"].mean() == pytest.approx(0, abs=0.01)
    assert names["NOISES"].var() == pytest.approx(1, abs=0.01)
    means = [rate.mean() for rate in names["rates"].values()]
    assert means == pytest.approx([means[0]] * 3, rel=1e-3)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_what_the_page_says_holds_with_other_seeds(seed):
    names = computed(GIVEN | {"seed": seed})
    lowest, losses = names["lowest"], names["losses"]
    assert [lowest(losses, end) for end in (200, 400, 600)] == [["cycle"]] * 3
    assert lowest(losses, 1000) == ["cosine"]
    assert max(NAMES, key=lambda name: losses[name][500].mean()) == "cycle"
    assert losses["constant"][1000].mean() > 0.8 * losses["constant"][400].mean()


# --- the page -------------------------------------------------------------------------------------


@needs_site
def test_it_begins_with_the_notebooks_settings_and_says_what_is_drawn(page):
    losses = computed(GIVEN)["losses"]
    means = [f"{losses[name][400].mean():.4f}" for name in NAMES]
    assert "after 400 of 1,000 updates, at the end of cycle 2: the cycle is best" in said(page)
    for name, mean in zip(NAMES, means, strict=True):
        assert f"{name} {mean}" in said(page)
    assert page.locator("#valley .mean").all_text_contents() == means
    assert said(page) in page.locator("#valley > svg").get_attribute("aria-label")
    assert page.locator("#valley .dots").count() == 3


@needs_site
def test_every_control_changes_the_drawing_and_reset_brings_it_back(page):
    def drawing():
        return page.locator("#valley > svg").inner_html()

    first, words = drawing(), said(page)
    for name, value in [
        ("stop", 500),
        ("max_lr", 1),
        ("min_lr", 0.05),
        ("cycle", 500),
        ("noise", 0),
    ]:
        before = drawing()
        move(page, name, value)
        assert drawing() != before, name
        assert "NaN" not in drawing()
    assert "at the end of cycle 1" in said(page)
    page.click("#valley [type=reset]")
    page.wait_for_function(
        "words => document.querySelector('#valley p').textContent === words", arg=words
    )
    assert drawing() == first


@needs_site
def test_the_keyboard_alone_moves_the_moment_of_stopping_and_its_focus_is_seen(page):
    page.locator("#valley [name=stop]").focus()
    page.keyboard.press("ArrowRight")
    assert "after 410 of 1,000 updates, 10 updates into cycle 3" in said(page)
    page.keyboard.press("End")
    assert "after 1,000 of 1,000 updates, at the end of cycle 5: the cosine rate is best" in said(
        page
    )
    outline = "e => getComputedStyle(e).outlineStyle"
    assert page.locator("#valley [name=stop]").evaluate(outline) == "solid"


@needs_site
def test_every_control_has_its_label_and_its_value_in_words(page):
    sliders = page.locator("#valley").get_by_role("slider")
    assert sliders.count() == 5
    for label in ("stop after", "upper bound", "lower bound", "cycle length", "noise"):
        assert page.locator("#valley").get_by_label(label).count() == 1
    move(page, "stop", 1000)
    assert page.inner_text("#valley output[for=valley-stop]") == "1,000"


@needs_site
def test_play_runs_to_the_planned_end_and_is_said_once(page):
    page.evaluate("performance.now = () => document.timeline.currentTime - 5800")  # Soon over.
    page.click("#valley button[type=button]")
    page.wait_for_function("document.querySelector('#valley [name=stop]').value === '1000'")
    page.wait_for_function("document.querySelector('#valley p').textContent.includes('1,000 of')")
    assert page.inner_text("#valley button[type=button]") == "Play"


@needs_site
def test_the_finding_and_the_figure_are_on_the_first_screen(page):
    assert (
        page.locator("h1 ~ p").first.bounding_box()["y"]
        < page.locator("#valley").bounding_box()["y"]
    )
    box = page.locator("#valley").bounding_box()
    assert box["y"] + box["height"] <= 900


@needs_site
def test_on_paper_is_the_notebooks_picture(page):
    assert not page.locator(".still figure").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".still figure").is_visible()
    assert not page.locator("#valley").is_visible()


@needs_site
def test_without_javascript_the_notebooks_picture_is_there(open_tab):
    tab, *_ = open_tab(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    tab.goto(PAGE.as_uri())
    picture = tab.locator(".cell_output figure > svg")
    box = picture.bounding_box()
    assert box["y"] + box["height"] <= 900
    assert "cycle" in picture.get_attribute("aria-label")
    assert "the cycle is best" in tab.inner_text(".cell_output figcaption")
    assert not tab.locator("#valley").is_visible()
    tab.close()


@needs_site
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_a_telephone_shows_it_whole_in_letters_of_nine_pixels(open_tab, scheme, media):
    view = {"width": 360, "height": 740}
    tab, *_ = open_tab(viewport=view, has_touch=True, is_mobile=True, color_scheme=scheme)
    tab.goto(PAGE.as_uri())
    heights = tab.locator("#valley :is(input, button)").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44
    tab.emulate_media(media=media)
    svg = "#valley > svg" if media == "screen" else ".still figure > svg"
    box = tab.locator(svg).bounding_box()
    texts = tab.locator(f"{svg} text").evaluate_all(
        """all => all.map(e => {
            const box = e.getBoundingClientRect(), m = e.getScreenCTM(), look = getComputedStyle(e);
            const size = parseFloat(look.fontSize) * Math.hypot(m.a, m.b);
            return [box.left, box.right, size, look.fill];
        })"""
    )
    ink = tab.locator(".bd-article p").first.evaluate("e => getComputedStyle(e).color")
    for left, right, size, fill in texts:
        assert left >= box["x"] - 1
        assert right <= box["x"] + box["width"] + 1
        assert size >= 9
        assert fill == ink or media == "print"  # There the theme changes with some delay.
    tab.close()


def test_it_is_small():
    files = [ROOT / "book" / "_static" / name for name in ("valley.js", "valley.css")]
    assert sum(path.stat().st_size for path in files) < 15_000

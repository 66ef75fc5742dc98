"""What every page of the site keeps to: read as files, and opened in a real browser."""

import re
import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from set_url import parts  # noqa: E402

SITE = ROOT / "_build" / "site"
REPOSITORY = "https://github.com/" + "/".join(parts(ROOT))
MOVED = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]["redirects"]
NOTEBOOK_PAGES = sorted(
    page for page in (SITE / "notebooks").glob("*.html") if f"notebooks/{page.stem}" not in MOVED
)
PAGES = [SITE / "search.html", SITE / "genindex.html", *sorted((SITE / "book").glob("*.html"))]
PAGES += NOTEBOOK_PAGES
TENSORFLOW_NOISE = re.compile(
    r"cudart_stub|cuda_executor|oneDNN custom operations|cpu_feature_guard|absl::InitializeLog|"
    r"[IWE]0000 00:00:|TF-TRT|xla_bridge|computation_placer"
)

pytestmark = pytest.mark.skipif(not NOTEBOOK_PAGES, reason="no site: make book renders it")


class Page(HTMLParser):
    """The parts of a page that the tests ask for."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.images: list[dict] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag in ("script", "img", "iframe", "source"):
            self.loaded.append(given.get("src", ""))
        if tag == "link" and given.get("rel") not in ("canonical", "search", "next", "prev"):
            self.loaded.append(given.get("href", ""))


@cache
def parsed(path: Path) -> Page:
    return Page(path)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(SITE).as_posix() for path in paths]


each_page = pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
each_notebook_page = pytest.mark.parametrize("page", NOTEBOOK_PAGES, ids=names(NOTEBOOK_PAGES))


def test_every_notebook_has_its_page():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.stem for path in NOTEBOOK_PAGES} == notebooks


def test_an_old_address_leads_to_the_page_of_today(open_tab):
    for old, new in MOVED.items():
        assert not list(ROOT.glob(f"{old}.*")), "a page that is there is not moved"
        page = (SITE / f"{old}.html").with_name(new)
        assert page in PAGES
        tab, *_ = open_tab()
        tab.goto((SITE / f"{old}.html").as_uri() + "#here")
        tab.wait_for_url(page.as_uri() + "#here")


@each_page
def test_links_and_anchors_within_the_site_resolve(page):
    for link in parsed(page).links:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        assert target.is_file(), f"{link}: no such file"
        if url.fragment and target.suffix == ".html":
            assert unquote(url.fragment) in parsed(target).ids, f"{link}: no such place"


@each_page
def test_nothing_is_loaded_from_elsewhere(page):
    remote = [url for url in parsed(page).loaded if "//" in url and not url.startswith("data:")]
    assert not remote


@each_page
def test_images_have_alternative_text(page):
    # A file's name, which is what Sphinx falls back to, is no description.
    for image in parsed(page).images:
        alt = image.get("alt", "")
        assert alt, image
        assert not re.search(r"\.(png|svg)$|^_images", alt), image


@each_page
def test_no_log_line_of_tensorflow_is_on_a_page(page):
    assert not TENSORFLOW_NOISE.search(page.read_text(encoding="utf-8"))


@each_notebook_page
def test_a_chapter_offers_colab_the_repository_and_a_download(page):
    links = parsed(page).links
    name = f"{page.stem}.ipynb"
    slug = "/".join(parts(ROOT))
    assert f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}" in links
    assert REPOSITORY in links
    assert f"{REPOSITORY}/edit/main/notebooks/{name}" in links
    assert any(link.startswith(f"{REPOSITORY}/issues/new") for link in links)
    (download,) = [link for link in links if link.endswith(f"_sources/notebooks/{name}")]
    assert (page.parent / download).resolve().is_file()


@each_notebook_page
def test_a_chapter_says_how_it_was_made(page):
    assert re.search(r"[Ee]xecuted in the profile .{0,10}quick", page.read_text(encoding="utf-8"))


# --- in a browser ---------------------------------------------------------------------------------


@dataclass
class Visit:
    """What a browser saw of a page."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    formulas: int = 0
    typeset: int = 0
    math_errors: int = 0
    wider_by: int = 0
    culprits: list[str] = field(default_factory=list)
    backgrounds: list[str] = field(default_factory=list)
    barriers: list[str] = field(default_factory=list)
    first_result: float = 0
    small_text: list[tuple[str, float]] = field(default_factory=list)


# Where the first figure, table or picture of a page begins.
FIRST_RESULT = """Math.min(...[...document.querySelectorAll(
    ".bd-article figure, .bd-article .cell_output img, .bd-article table, .bd-article svg")]
    .map(e => e.getBoundingClientRect()).filter(r => r.width > 100).map(r => r.top))"""
# Figures and the height in pixels of what is 10 points high in them.
TEXT_HEIGHT = """[...document.querySelectorAll(".bd-article .cell_output img[src$='.svg']")]
    .map(e => [e.alt.slice(0, 60), 10 / 0.75 * e.getBoundingClientRect().width / e.naturalWidth])"""

# Most words look like others: one of each look, on each background, is tried. axe-core takes
# milliseconds to find out what stands behind a word.
LOOKS_ONCE = """() => {
    const words = document.querySelectorAll(".bd-article :is(span, em, strong):not(:has(*), [id])");
    const looks = [...words].map(word => {
        const {color, fontSize, fontWeight} = getComputedStyle(word);
        const look = [word.className, color, fontSize, fontWeight];
        for (let e = word; e; e = e.parentElement) look.push(getComputedStyle(e).backgroundColor);
        return look.filter(part => part != "rgba(0, 0, 0, 0)").join();
    });
    looks.forEach((look, i) => {
        if (looks.indexOf(look) < i) words[i].replaceWith(words[i].textContent);
    });
}"""


@pytest.fixture(scope="module")
def visits(open_tab) -> dict[str, Visit]:
    """Every page opened as a reader would from the folder: wide and light, then narrow and dark."""
    return {name: visit(open_tab, path) for name, path in zip(names(PAGES), PAGES, strict=True)}


def visit(open_tab, path: Path) -> Visit:
    seen = Visit()
    tab, seen.requests, seen.complaints = open_tab(viewport={"width": 1280, "height": 900})
    tab.goto(path.as_uri(), wait_until="load")
    seen.first_result = tab.evaluate(FIRST_RESULT)
    seen.formulas = tab.locator("span.math, div.math").count()
    if seen.formulas:
        tab.wait_for_function("document.querySelector('mjx-container')", timeout=20_000)
        tab.evaluate("MathJax.startup.promise")
    seen.typeset = tab.locator("span.math > mjx-container, div.math > mjx-container").count()
    seen.math_errors = tab.locator("mjx-merror, [data-mjx-error]").count()
    seen.barriers += barriers(tab)
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.wait_for_timeout(500)  # The theme answers a new width after 300.
    seen.wider_by = tab.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    if seen.wider_by > 0:
        seen.culprits = tab.evaluate(
            """[...document.querySelectorAll('.bd-main *')]
               .filter(e => e.getBoundingClientRect().right > 361)
               .slice(0, 5).map(e => e.tagName + '.' + e.className)"""
        )
    seen.small_text = [found for found in tab.evaluate(TEXT_HEIGHT) if found[1] < 9]
    seen.backgrounds = tab.evaluate(
        """[...document.querySelectorAll('.bd-article img')]
           .map(e => getComputedStyle(e).backgroundColor)"""
    )
    seen.barriers += barriers(tab)
    tab.close()
    return seen


def barriers(tab) -> list[str]:
    """What axe-core finds that would keep a reader out, such as too little contrast."""
    from axe_playwright_python.sync_playwright import Axe

    tab.evaluate(LOOKS_ONCE)
    # Without preloading, for which it would have to fetch the style sheets once more.
    options = {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(tab, options=options).response["violations"]
    return [
        f"{finding['id']}: {node['html'][:150]}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"][:2]
    ]


def offenders(visits: dict[str, Visit], what) -> dict[str, object]:
    """The pages for which `what` gives anything, with what it gives."""
    return {name: what(seen) for name, seen in visits.items() if what(seen)}


def test_no_request_leaves_a_page(visits):
    here = ("file:", "data:", "blob:")
    assert not offenders(visits, lambda v: [u for u in v.requests if not u.startswith(here)])


def test_no_page_has_anything_to_complain_of(visits):
    assert not offenders(visits, lambda v: v.complaints)


def test_every_formula_is_typeset(visits):
    assert sum(v.formulas for v in visits.values()) > 0
    assert not offenders(visits, lambda v: v.math_errors)
    assert not offenders(visits, lambda v: v.formulas - v.typeset)


def test_no_page_is_wider_than_a_telephone(visits):
    assert not offenders(visits, lambda v: v.wider_by > 0 and (v.wider_by, v.culprits))


def test_what_scrolls_fades_where_more_of_it_is_hidden(open_tab):
    tab, *_ = open_tab(viewport={"width": 360, "height": 740})
    tab.goto((SITE / "book/migration.html").as_uri())
    boxes = '[...document.querySelectorAll(".bd-article :is(table, pre)")]'
    fades = 'getComputedStyle(box).getPropertyValue("--hidden-part")'
    found = f"{boxes}.map(box => [box.scrollWidth > box.clientWidth, {fades}])"
    assert {(wide, part) for wide, part in tab.evaluate(found)} == {(True, "40px"), (False, "0px")}
    tab.evaluate(f"{boxes}.forEach(box => box.scrollLeft = box.scrollWidth)")
    tab.wait_for_function(f"{boxes}.every(box => {fades} == '0px')", timeout=20_000)


def test_a_chapter_shows_a_result_on_its_first_screen(visits):
    chapters = {name: seen for name, seen in visits.items() if name.startswith("notebooks/")}
    assert not offenders(chapters, lambda v: v.first_result > 850 and v.first_result)


def test_a_figures_text_can_be_read_on_a_telephone(visits):
    assert not offenders(visits, lambda v: v.small_text)


def test_figures_stay_transparent_in_dark_mode(visits):
    clear = ("rgba(0, 0, 0, 0)", "transparent")
    assert sum(len(v.backgrounds) for v in visits.values()) > 0
    assert not offenders(visits, lambda v: [c for c in v.backgrounds if c not in clear])


def test_nothing_keeps_a_reader_out(visits):
    assert not offenders(visits, lambda v: v.barriers)


@pytest.mark.parametrize("words", ["triangular2", "range test"])
def test_the_search_finds_words_of_the_book(browser, words):
    tab = browser.new_page()
    tab.goto((SITE / "search.html").as_uri() + f"?q={words}")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    assert tab.locator("#search-results li a").count() >= 2
    tab.close()


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_the_cheat_sheet_prints_on_one_sheet(browser, paper):
    tab = browser.new_page()
    tab.goto((SITE / "book/cheat_sheet.html").as_uri())
    assert tab.pdf(format=paper).count(b"/Type /Page\n") == 1
    tab.close()


@each_page
def test_nothing_is_cut_off_on_paper(open_tab, page):
    tab, _, _ = open_tab(viewport={"width": 718, "height": 1047})  # A4 within its margins
    tab.emulate_media(media="print")
    tab.goto(page.as_uri(), wait_until="load")
    cut = tab.evaluate(
        """[...document.querySelectorAll('.bd-article :is(pre, table, img, .cell_output)')]
           .filter(e => e.checkVisibility())
           .filter(e => e.scrollWidth > e.clientWidth + 1 ||
                        e.getBoundingClientRect().right > innerWidth)
           .map(e => e.textContent.slice(0, 80))"""
    )
    buttons = tab.locator("button:visible, .bd-sidebar-primary:visible, .copybtn:visible").count()
    tab.close()
    assert (cut, buttons) == ([], 0)


def test_a_dark_page_is_printed_dark_on_white(open_tab):
    tab, _, _ = open_tab(color_scheme="dark")
    tab.goto(NOTEBOOK_PAGES[0].as_uri(), wait_until="load")
    tab.evaluate(
        """addEventListener('beforeprint', () => {
               const colours = getComputedStyle(document.body);
               window.printed = [colours.color, colours.backgroundColor];
           })"""
    )
    tab.pdf(format="A4")
    brightness = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in tab.evaluate("printed")]
    assert brightness[0] < 150
    assert brightness[1] == 3 * 255
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.close()


STOP = """() => {
    const e = document.activeElement, box = e.getBoundingClientRect(), look = getComputedStyle(e);
    return e === document.body ? null : {
        name: e.outerHTML.slice(0, 120),
        seen: box.right > 0 && box.left < innerWidth,
        look: [look.outlineStyle, look.outlineWidth, look.boxShadow].join(' ')
    };
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_focus_of_the_keyboard_is_seen_at_every_stop(open_tab, width):
    tab, _, _ = open_tab(viewport={"width": width, "height": 844}, reduced_motion="reduce")
    tab.goto(NOTEBOOK_PAGES[1].as_uri(), wait_until="load")
    tab.wait_for_timeout(500)  # The theme adds its buttons.
    stops = []
    tab.keyboard.press("Tab")
    while (stop := tab.evaluate(STOP)) and len(stops) < 300:
        stops.append(stop)
        tab.keyboard.press("Tab")
    tab.close()
    assert len(stops) > 20
    assert not [stop["name"] for stop in stops if not stop["seen"]]
    assert not [stop for stop in stops if re.match(r"none .* none$", stop["look"])]


def test_the_site_is_small():
    sizes = {path: path.stat().st_size for path in SITE.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 15e6


def test_the_landing_page_is_light(open_tab):
    tab, requests, _ = open_tab()
    tab.goto((SITE / "book/intro.html").as_uri(), wait_until="load")
    paths = {Path(unquote(urlsplit(url).path)) for url in requests if url.startswith("file:")}
    assert sum(path.stat().st_size for path in paths if path.is_file()) < 1e6


def test_the_index_leads_to_the_book(browser):
    tab = browser.new_page()
    tab.goto((SITE / "index.html").as_uri())
    tab.wait_for_url("**/book/intro.html")
    assert "Cyclical learning rates" in tab.title()
    tab.close()

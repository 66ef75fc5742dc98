"""What the published site says of itself, and what its landing page promises."""

import functools
import html
import re
import struct
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest
from test_site import NOTEBOOK_PAGES, PAGES, ROOT, SITE, names, parts

sys.path.insert(0, str(ROOT / "book" / "_ext"))

import computed

ADDRESS = "https://{}.github.io/{}/".format(*parts(ROOT))
WRITTEN = [page for page in PAGES if page.stem not in ("search", "genindex")]

pytestmark = pytest.mark.skipif(not NOTEBOOK_PAGES, reason="no site: make book renders it")


def tag(page, name: str) -> str:
    """The content of a page's meta tag."""
    (content,) = re.findall(
        rf'<meta (?:property|name)="{name}" content="([^"]*)"', page.read_text(encoding="utf-8")
    )
    return content


def test_the_sitemap_lists_every_page():
    places = ElementTree.parse(SITE / "sitemap.xml").iterfind(".//{*}loc")
    listed = {place.text.removeprefix(ADDRESS) for place in places}
    assert set(names(WRITTEN)) <= listed
    assert all((SITE / name).is_file() for name in listed)


@pytest.mark.parametrize("page", WRITTEN, ids=names(WRITTEN))
def test_a_link_to_a_page_shows_a_card(page):
    assert tag(page, "og:url") == ADDRESS + page.relative_to(SITE).as_posix()
    assert tag(page, "og:description")
    card = (SITE / tag(page, "og:image").removeprefix(ADDRESS)).read_bytes()
    assert card.startswith(b"\x89PNG") and struct.unpack(">2I", card[16:24]) == (1200, 630)
    assert tag(page, "og:image:alt") and tag(page, "twitter:card") == "summary_large_image"


@pytest.mark.parametrize("page", WRITTEN, ids=names(WRITTEN))
def test_a_page_says_when_it_last_changed(page):
    (source,) = ROOT.glob(page.relative_to(SITE).with_suffix(".*").as_posix())
    command = ["git", "log", "-1", "--format=%cs", "--", str(source)]
    date = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    if not date:
        pytest.skip("no history of this page: git clone has it")
    # The site may be older than the last commit, so the day may be too.
    shown = re.search(r"Last updated on (\d{4}-\d\d-\d\d)\.", page.read_text(encoding="utf-8"))
    assert shown and shown[1] <= date


def test_the_landing_page_shows_what_was_recorded():
    text = html.unescape((SITE / "book/intro.html").read_text(encoding="utf-8"))
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")  # As typed.
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    assert computed.cifar10() in text


def test_a_result_that_was_not_recorded_is_named_so(tmp_path, monkeypatch):
    monkeypatch.setattr("clr.training.records.RUNS", tmp_path)
    assert computed.cifar10() == computed.MISSING


def test_the_status_page_has_a_row_for_every_chapter():
    text = (SITE / "book/status.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr.*?</tr>", text, re.DOTALL)[1:]
    plain = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]
    assert len(plain) == len(NOTEBOOK_PAGES)
    form = r".+ (\d+)/\1 no error quick \d+ \d{4}-\d\d-\d\d \d\d:\d\d"
    assert not [row for row in plain if not re.fullmatch(form, row)]


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_picture_moves_once_and_not_at_all_for_who_asks(open_tab, motion):
    tab, _, complaints = open_tab(reduced_motion=motion)
    tab.goto((SITE / "_images/waves.svg").as_uri())
    running = tab.evaluate("document.getAnimations().map(a => a.effect.getComputedTiming())")
    if motion == "reduce":
        assert not running
    else:
        assert len(running) == 3
        # Motion that lasted longer would have to be stoppable (WCAG 2.2.2).
        assert all(timing["endTime"] <= 5000 for timing in running)
    assert not complaints
    tab.close()


@pytest.fixture(scope="module")
def served():
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow  # A time, and so for a machine that has nothing else to do.
@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_a_page_is_usable_within_a_second(browser, served, page):
    """First contents painted and the page ready for a click: the best of five first visits."""
    waits = []
    while len(waits) < 5 and min(waits, default=1000) >= 1000:
        context = browser.new_context()  # Nothing is cached.
        tab = context.new_page()
        tab.goto(served + page.relative_to(SITE).as_posix(), wait_until="load")
        tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        waits.append(
            tab.evaluate(
                """Math.max(performance.getEntriesByName('first-contentful-paint')[0].startTime,
                   performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd)"""
            )
        )
        context.close()
    assert min(waits) < 1000

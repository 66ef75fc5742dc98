"""The prose keeps to the style sheet in CONTRIBUTING.md, as far as a machine can tell."""

import re
from pathlib import Path
from statistics import fmean

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "book").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
LONGEST, AVERAGE = 35, 20  # Words in a sentence.
# Columns of code: what a page shows without scrolling.
WIDEST = int(re.search(r"--line-length (\d+)", (ROOT / "Makefile").read_text())[1])
HIDDEN = {"hide-cell", "hide-input", "remove-cell", "remove-input"}
AVOIDED = {  # And what to write instead.
    r"anew": "again",
    r"at hand": "available",
    r"heir": "successor",
    r"comes? to pass": "happens",
    r"a training(?! (?:run|set|loop|step|example|image|batch|loss|script|curve|accuracy|epoch))": (
        "a training run"
    ),
    r"trainings": "training runs",
    r"(?:illness|malady|cure)s?": "fault, next step",
    r"contestants?": "variants",
    r"breathes?": "rises and falls",
    r"thousand million": "billion",
    r"we (?:hope|believe) that you": "nothing",
}


def prose(path: Path) -> str:
    """A page's text without code, tables, directives and link targets.

    What a chapter's cells say in Markdown is its text, too.
    """
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        said = [cell.source for cell in cells if cell.cell_type == "markdown"]
        for cell in cells:
            outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
            said += [data["text/markdown"] for data in outputs if "text/markdown" in data]
        text = "\n\n".join(said)
    else:
        text = path.read_text(encoding="utf-8")
    # Blocks whose words are prose lose their fence only.
    text = re.sub(
        r"^(?:```|:::+)\{(?:admonition|figure|note|tip|glossary|div|grid\S*)\}.*$",
        "",
        text,
        flags=re.M,
    )
    text = re.sub(r"^:[\w-]+:.*$", "", text, flags=re.M)
    text = re.sub(r"^```\S.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(?:```|:::+)$", "", text, flags=re.M)
    text = re.sub(r"^\s*\|.*\|\s*$", "", text, flags=re.M)
    text = re.sub(r"^\([\w-]+\)=$", "", text, flags=re.M)
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\{\{.*?\}\}|\$[^$\n]+\$", "X", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)(?:\s*<[^>]*>)?`", "X", text)
    return re.sub(r"`[^`]*`", "X", text)


def code(path: Path) -> list[str]:
    """The lines of code that a page shows without a click."""
    shown = []
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for cell in cells:
            if cell.cell_type == "code" and not HIDDEN & set(cell.metadata.get("tags", [])):
                shown += cell.source.splitlines()
    else:
        text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:python|sh|text)\n(.*?)^```$", text, re.M | re.S):
        shown += block.splitlines()
    return shown


def sentences(text: str) -> list[str]:
    """The sentences of a page, one paragraph or list item after the other."""
    found = []
    for block in re.split(
        r"\n\s*\n|(?<=\n)(?=\w[^\n]*\n    )|^\s*(?:[-*]|\d+\.)\s+|^\s*:\s+", text, flags=re.M
    ):
        if not block.lstrip().startswith("#"):
            found += re.split(r"(?<=[.!?:])[*_)\"']*\s+(?=[\"'(*A-Z0-9X])", " ".join(block.split()))
    return [sentence for sentence in found if len(sentence.split()) > 2]


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request):
    return request.param


def test_sentences_are_short(page):
    found = sentences(prose(page))
    long = [s for s in found if len(s.split()) > LONGEST]
    assert not long, f"more than {LONGEST} words"
    if len(found) >= 10:
        assert fmean(len(s.split()) for s in found) <= AVERAGE


def test_code_is_no_wider_than_its_box(page):
    assert [line for line in code(page) if len(line) > WIDEST] == []


def test_words_are_plain(page):
    text = prose(page)
    for words, instead in AVOIDED.items():
        found = re.search(rf".*\b{words}\b.*", text, re.IGNORECASE)
        assert not found, f"write: {instead}"


def test_because_is_said_so(page):
    """'for' is no conjunction here: ', for a mirrored 3 is not a 3'."""
    verb = "is|are|was|has|have|does|would|can"
    clause = rf", for (?:it|they|there|then|this|these|an?|the|no) (?:\w+ ){{0,3}}(?:{verb})\b"
    found = re.search(rf".*{clause}.*", prose(page))
    assert not found, "write: because"


def test_headings_say_something(page):
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.M):
        assert len(heading.split()) <= 15, heading
        assert not heading.endswith((".", ":")), heading


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (
            "Four words are here. So are four.\n\n- A list item is one.\n- Another is two.",
            4,
        ),
        ("```python\nfor a in b: print(a)\n```\nThis is a sentence.", 1),
        ("| a table | is no prose at all |\n\nThis is a sentence with `code. In it`.", 1),
    ],
)
def test_the_reading_itself(tmp_path, text, count):
    path = tmp_path / "page.md"
    path.write_text(text)
    assert len(sentences(prose(path))) == count

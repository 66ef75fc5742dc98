"""What a reader sees in the terminal while the book is made: our lines, and every error."""

import subprocess
import sys

import pytest
from small_book import ROOT, make, make_small_book, write_notebook

CHAPTER = "_build/src/notebooks/one.ipynb"
CHATTER = "I0000 00:00:1795792637.4 31766 port.cc:153] oneDNN custom operations are on."


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_kernel_writes_is_shown_only_if_its_chapter_fails(tmp_path, fails):
    book = make_small_book(tmp_path / "book")
    source = f"import os\nos.write(2, b'{CHATTER}')\nprint(6 * 7)\nassert {not fails}"
    write_notebook(book / "notebooks/one.ipynb", source)
    done = make(book, CHAPTER)
    assert (done.returncode != 0) == fails
    assert (CHATTER in done.stderr) == fails
    assert ("AssertionError" in done.stderr) == fails
    assert CHATTER in (book / "_build/logs/one.log").read_text()


def test_a_kernel_that_dies_is_shown_with_its_last_words(tmp_path):
    book = make_small_book(tmp_path / "book")
    source = "import os\nos.write(2, b'Out of memory')\nos._exit(1)"
    write_notebook(book / "notebooks/one.ipynb", source)
    done = make(book, CHAPTER)
    assert done.returncode != 0
    assert "notebooks/one.ipynb failed" in done.stderr
    assert "Out of memory" in done.stderr


def test_only_information_of_tensorflow_is_kept_from_the_terminal():
    lines = [CHATTER, "E0000 00:00:1 a real error", "W0000 00:00:1 a warning", "Traceback"]
    script = (
        f"import os, sys; sys.path.insert(0, {str(ROOT / 'book' / '_ext')!r}); import quiet\n"
        f"with quiet.without_chatter():\n    os.write(2, {chr(10).join(lines).encode()!r})\n"
        "    raise ImportError('of Python')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert CHATTER not in done.stderr
    for shown in [*lines[1:], "ImportError: of Python"]:
        assert shown in done.stderr

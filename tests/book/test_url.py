"""The repository's URL stands in one place, and one target sets it wherever else it must."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from set_url import parts, set_url, text_files  # noqa: E402

# Put together, so that no file holds it before.
FORK = ("some-" + "body", "fork")
HOLDERS = ("pyproject.toml", "_config.yml", "README.md", "book/intro.md")


@pytest.fixture
def copy(tmp_path) -> Path:
    for path in text_files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def mentions(root: Path, owner: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in text_files(root)
        if f"{owner}/" in path.read_text("utf-8") or f"{owner}.github.io" in path.read_text("utf-8")
    }


def test_one_command_sets_the_url_everywhere(copy):
    owner, _ = parts(copy)
    holding = mentions(copy, owner)
    assert holding >= {
        *HOLDERS,
        *(f"notebooks/{p.name}" for p in (copy / "notebooks").glob("*.ipynb")),
    }

    changed = {path.as_posix() for path in set_url(copy, "https://github.com/" + "/".join(FORK))}

    assert changed == holding
    assert mentions(copy, owner) == set()
    assert parts(copy) == FORK
    # There and back is where it was: nothing else was touched.
    set_url(copy, f"https://github.com/{owner}/{parts(ROOT)[1]}")
    for path in text_files(ROOT):
        assert (copy / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_no_other_address_of_ours_stands_anywhere():
    ours = "/".join(parts(ROOT))
    pattern = re.compile(r"github(?:\.com|usercontent\.com)?/([A-Za-z0-9-]+/clr)\b")
    for path in text_files(ROOT):
        # "you" is the reader's fork, in the instructions for setting it.
        found = set(pattern.findall(path.read_text("utf-8"))) - {ours, "you/clr"}
        assert not found, f"{path.relative_to(ROOT)} names {found}, not {ours}"


@pytest.mark.parametrize("url", ["", "github.com/you/clr", "https://github.com/you", "you/clr"])
def test_what_is_no_repository_is_refused_and_changes_nothing(copy, url):
    before = (copy / "pyproject.toml").read_bytes()
    with pytest.raises(ValueError, match=re.escape(repr(url))):
        set_url(copy, url)
    assert (copy / "pyproject.toml").read_bytes() == before
    script = [sys.executable, str(ROOT / "tools" / "set_url.py"), url]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "`url` must be" in done.stderr

"""Sets the repository's URL everywhere it stands.

    python tools/set_url.py https://github.com/you/clr

The URL in force is `Repository` in pyproject.toml; every text file of the project that holds its
"owner/name" (Colab's addresses do too) or its address on GitHub Pages gets the new one.
"""

import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GITHUB = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git|/)?")
HIDDEN_BUT_OURS = (".ci", ".github")


def set_url(root: Path, url: str) -> list[Path]:
    """Replaces the URL in force in the files below `root` and returns those that changed.

    Raises:
        ValueError: `url` is not https://github.com/OWNER/NAME.
    """
    new = GITHUB.fullmatch(url)
    if new is None:
        raise ValueError(f"`url` must be https://github.com/OWNER/NAME. Received: url={url!r}")
    replacements = list(zip(addresses(*parts(root)), addresses(*new.groups()), strict=True))
    changed = []
    for path in text_files(root):
        before = after = path.read_bytes()
        for old, replacement in replacements:
            after = old_address(old).sub(replacement.encode(), after)
        if after != before:
            path.write_bytes(after)
            changed.append(path.relative_to(root))
    return changed


def parts(root: Path) -> tuple[str, str]:
    """Returns the owner and the name of the repository in force."""
    with (root / "pyproject.toml").open("rb") as file:
        url = tomllib.load(file)["project"]["urls"]["Repository"]
    owner, name = GITHUB.fullmatch(url).groups()  # type: ignore[union-attr]
    return owner, name


def addresses(owner: str, name: str) -> tuple[str, str]:
    """Returns the two forms in which a repository is named: on GitHub and Colab, and on Pages."""
    return f"{owner}/{name}", f"{owner}.github.io/{name}"


def old_address(address: str) -> re.Pattern[bytes]:
    """Returns a pattern for an address that is not a part of a longer name."""
    return re.compile(rb"(?<![\w-])" + re.escape(address).encode() + rb"(?![\w-])")


def text_files(root: Path) -> list[Path]:
    """Returns the project's own files that could hold a URL."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f != "_build" and (f[0] != "." or f in HIDDEN_BUT_OURS)]
        found += [Path(folder, name) for name in names]
    return sorted(path for path in found if b"\0" not in path.read_bytes()[:8192])


def main() -> None:
    """Sets the URL that the command line gives."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        changed = set_url(ROOT, sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
    print("\n".join(map(str, changed)) if changed else "nothing to change")


if __name__ == "__main__":
    main()

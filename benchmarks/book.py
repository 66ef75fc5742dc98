"""How long the book takes: from nothing, with nothing changed, and with one notebook changed.

In a copy of the committed tree, with this environment: what is not committed is not measured.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from harness import ROOT, measured, write


def main() -> None:
    """Measures, prints and writes."""
    rows = []
    # As if started by hand, not by the make that runs this.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "clr"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
        # The environment is not what is measured: make finds it, and older than nothing.
        for name in ("requirements.txt", "pyproject.toml"):
            os.utime(copy / name, (0, 0))
        make = ["make", f"VENV={ROOT / '.venv'}", "book"]
        for what, touched in [
            ("from nothing", None),
            ("nothing changed", None),
            ("one notebook changed", copy / "notebooks" / "03_policies.ipynb"),
        ]:
            if touched:
                touched.touch()
            _, seconds, peak = measured(make, cwd=copy, env=environment)
            rows.append({"build": what, "seconds": seconds, "peak MiB": peak})
    chapters = len(list((ROOT / "notebooks").glob("*.ipynb")))
    write("book", rows, f"make book, {chapters} chapters, the environment set up before")


if __name__ == "__main__":
    main()

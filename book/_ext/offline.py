"""Sphinx extension: no page of the site asks another server for anything.

Jupyter Book brings scripts from elsewhere: MathJax, and thebe for running code on a server. The
first is served from the site itself, the second is left out together with anything else remote.
The pages also open from a folder, without a server.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

# One file with its own outlines of the glyphs: 2 MB in place of the package's 24.
MATHJAX = "mathjax/tex-svg.js"


def drop_remote(app, pagename, templatename, context, doctree):
    """Keeps the scripts and style sheets that the site holds itself."""
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context.get(kind, []) if stays(file)]


def stays(file) -> bool:
    """Says whether a script or style sheet is local and not thebe's."""
    name = str(getattr(file, "filename", file) or "")
    body = (getattr(file, "attributes", None) or {}).get("body", "") or ""
    return "://" not in name and not name.startswith("//") and "thebe" not in name + body


def copy_mathjax(app, error):
    """Puts MathJax into the finished site."""
    if error is None and app.builder.format == "html":
        (folder,) = find_spec("sphinx-mathjax-offline").submodule_search_locations
        target = Path(app.outdir) / "_static" / MATHJAX
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(folder) / "static" / MATHJAX, target)


def setup(app):
    """Called by Sphinx."""
    app.config.mathjax_path = MATHJAX
    # After every extension that adds a file to a page.
    app.connect("html-page-context", drop_remote, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

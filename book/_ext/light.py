"""Sphinx extension: a page loads only what it uses.

The theme and its extensions bring everything to every page: two megabytes of MathJax where there is
no formula, a script that draws icons which the style sheet's fonts draw as well, and hints to load
fonts early, which browsers refuse for pages in a folder.
"""

import re
from pathlib import Path

# What a script's or style sheet's name contains, by what shows in a page that it is needed.
NEEDED_WITH = {"mathjax": 'class="math', "mystnb": 'class="cell'}
DROPPED = re.compile(
    r'<script[^>]*src="[^"]*fontawesome[^"]*"[^>]*></script>\s*'
    r'|<link rel="preload"[^>]*as="font"[^>]*>'
)


def drop_unused(app, pagename, templatename, context, doctree):
    """Keeps the scripts and style sheets that this page needs."""
    body = context.get("body", "")
    unused = [name for name, sign in NEEDED_WITH.items() if sign not in body]
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context.get(kind, [])
            if not any(name in str(getattr(file, "filename", file)) for name in unused)
        ]


def drop_from_templates(app, error):
    """Removes what the theme's templates write into every page, and the icons' script itself."""
    if error is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            page.write_text(DROPPED.sub("", page.read_text(encoding="utf-8")), "utf-8")
        for script in Path(app.outdir).glob("_static/vendor/fontawesome/*/js/*"):
            script.unlink()


def setup(app):
    """Called by Sphinx."""
    # After every extension that adds a file to a page.
    app.connect("html-page-context", drop_unused, priority=900)
    app.connect("build-finished", drop_from_templates)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

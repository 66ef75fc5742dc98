"""Sphinx extension: each page says when it last changed."""

import subprocess


def date_page(app, pagename, templatename, context, doctree):
    """Gives the theme's footer the date of the last commit that touched the page's source."""
    if doctree is None:
        return
    # The source that is rendered is a copy; the original lies at the same place in the repository.
    original = ":/" + str(app.env.doc2path(pagename, base=False))
    command = ["git", "-C", str(app.srcdir), "log", "-1", "--format=%cs", "--", original]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:  # No git here.
        return
    context["last_updated"] = done.stdout.strip() or None  # Nothing outside a repository.


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", date_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

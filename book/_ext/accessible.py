"""Sphinx extension: mends what would make a page hard to read, above all without eyes or mouse."""

import re

# The output of a cell whose figure has the class `wide`.
WIDE = re.compile(
    r'(<div class="cell_output docutils container")'
    r"(>\s*<figure(?:(?!</figure>).)*?<img[^>]*\bwide\b)",
    re.DOTALL,
)
# Spaces in what is one thing: a number, its spread, its per cent, and how many runs it is from.
WITHIN = re.compile(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)|(?<=\bn) (?== \d+\))|(?<=\bn =) (?=\d+\))")


def mend(app, pagename, templatename, context, doctree):
    """Changes the page's body."""
    body = context.get("body", "")
    # The entries of the bibliography have a role of their own, which is none of a list's.
    body = body.replace('<div role="list" class="citation-list">', "<div>")
    # On narrow windows a table scrolls: by keyboard too, once it can be reached.
    body = body.replace('<table class="', '<table tabindex="0" class="')
    body = WIDE.sub(r'\1 tabindex="0"\2', body)  # And so does a wide figure.
    context["body"] = WITHIN.sub("\N{NO-BREAK SPACE}", body)


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

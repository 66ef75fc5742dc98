"""Sphinx extension: mends what a screen reader would stumble over in the pages' HTML."""


def mend(app, pagename, templatename, context, doctree):
    """Takes the role of a list from the bibliography: its entries have a role of their own."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', "<div>"
        )


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

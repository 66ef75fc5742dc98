"""Sphinx extension: the package is imported without TensorFlow's chatter in the terminal.

`TF_CPP_MIN_LOG_LEVEL` comes too late for what TensorFlow says while it is loaded.
"""

import os
import re
import sys
import tempfile
from contextlib import contextmanager

# Its information, and the sentence before that. Warnings and errors begin with W, E or F.
CHATTER = re.compile(r"I\d{4} |WARNING: All log messages before absl::InitializeLog")


@contextmanager
def without_chatter():
    """Holds back what is written to stderr, by libraries too, then shows what is not chatter."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            sys.stderr.writelines(line for line in held if not CHATTER.match(line))


def setup(app):
    """Called by Sphinx."""
    with without_chatter():
        import clr  # noqa: F401
    return {"parallel_read_safe": True, "parallel_write_safe": True}

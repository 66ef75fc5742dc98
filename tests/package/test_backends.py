"""That the package needs no backend but the one that Keras runs on."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from markers import BACKEND, TENSORFLOW

IMPORT = """
import sys
import clr
print(*sorted({"tensorflow", "jax", "torch"} & set(sys.modules)))
"""


def test_importing_the_package_imports_no_other_backend():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert done.stdout.split() == [BACKEND], done.stderr


@pytest.mark.skipif(TENSORFLOW, reason="for `make backends`")
def test_no_tensorflow_is_installed_where_other_backends_are_tried():
    assert find_spec("tensorflow") is None

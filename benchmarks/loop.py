"""What `clr.train` adds to the bare compiled step: a small and a large network.

python benchmarks/loop.py [JAX]    JAX: an interpreter that has JAX, to measure there as well
"""

import os
import subprocess
import sys

REPEATS = 7
# Name, width, batch size, steps in an epoch.
NETWORKS = (("small", 0.125, 32, 256), ("large", 1.0, 64, 24))


class Turns:
    """Times the epochs of a training run, and the bare step in turn with them."""


def main() -> None:
    """Measures, prints and writes."""


if __name__ == "__main__":
    main()

"""Runs a command, and prints the peak memory of its largest process, in MiB, on a last line."""

import resource
import subprocess
import sys

code = subprocess.run(sys.argv[1:]).returncode
print(f"\n{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}")
sys.exit(code)

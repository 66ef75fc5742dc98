"""Training throughput of MiniGoogLeNet at batch 64: ours against PyTorch eager, on the same cores.

python benchmarks/throughput.py [--torch PYTHON]    PYTHON: an interpreter that has torch
"""

import argparse
import subprocess
import sys
from pathlib import Path

from harness import quartiles, write

STEPS, REPEATS = 30, 5
HERE = Path(__file__).resolve().parent
OURS = f"""
import sys, time, keras, numpy as np, clr
e = clr.Experiment(batch_size=64, augment=False, num_epochs=1, step_size=1, dtype=sys.argv[1])
rng = np.random.default_rng(0)
x = rng.normal(size=(64 * {STEPS}, 32, 32, 3)).astype("float32")
y = np.eye(10, dtype="float32")[rng.integers(10, size=len(x))]
class Data: x_train, classes, flip = x, range(10), True
model, cycle = clr.build(e, Data), clr.CyclicLR(1e-7, 1e-2, {STEPS})
def train():
    batches = clr.datasets.Batches(x, y, 64, 0)
    begin = time.perf_counter()
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[cycle])
    return (time.perf_counter() - begin) / 2
train()
print(train())
"""


def seconds(command: list[str]) -> float:
    """Runs a contestant and returns what it prints last."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measures in turn, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", default=sys.executable)
    torch = parser.parse_args().torch
    rows = []
    for dtype in ("float32", "bfloat16"):
        ours, theirs = [], []
        for _ in range(REPEATS):
            policy = "float32" if dtype == "float32" else "mixed_bfloat16"
            ours.append(seconds([sys.executable, "-c", OURS, policy]))
            theirs.append(seconds([torch, str(HERE / "peer_torch.py"), str(STEPS), dtype]))
        rows.append(
            {
                "precision": dtype,
                "ours, images/s": quartiles([64 * STEPS / s for s in ours]),
                "PyTorch, images/s": quartiles([64 * STEPS / s for s in theirs]),
                "ratio": quartiles([t / o for o, t in zip(ours, theirs, strict=True)]),
            }
        )
    write("throughput", rows, "MiniGoogLeNet, width 1, batch 64, on random images")


if __name__ == "__main__":
    main()

"""Training throughput of MiniGoogLeNet at batch 64: ours against PyTorch eager, on the same cores.

python benchmarks/throughput.py [TORCH]    TORCH: an interpreter that has torch
"""

import json
import os
import sys
from pathlib import Path

from harness import measured, quartiles, ratios, write

REPEATS, STEPS, EPOCHS = 3, 10, 2
MATRIX = 4096  # Side of the product that says what rate of arithmetic can be attained.
HERE = Path(__file__).resolve().parent


def convolutions(command: list[str]) -> float:
    """Returns the milliseconds an image that oneDNN, which TensorFlow and PyTorch share, convolves.

    In a run of its own: it says each operation. One at a time, lest those side by side count twice.
    """
    said = {"ONEDNN_VERBOSE": "1", "TF_NUM_INTEROP_THREADS": "1"}
    printed, *_ = measured(command, env={**os.environ, **said})
    lines = [line.split(",") for line in printed.splitlines() if ",exec,cpu,convolution," in line]
    return sum(float(line[-1]) for line in lines) / (64 * STEPS * (EPOCHS + 1))  # And warming up.


def main() -> None:
    """Measures in turn, prints and writes."""
    torch = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    commands = {
        "ours": [sys.executable, str(HERE / "train_keras.py")],
        "Keras's own normalisation": [sys.executable, str(HERE / "train_keras.py"), "--plain"],
        "PyTorch": [torch, str(HERE / "train_torch.py")],
    }
    images, rows = 64 * STEPS * EPOCHS, []
    numbers = [str(number) for number in (STEPS, EPOCHS, MATRIX)]
    for dtype in ("float32", "bfloat16"):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, command in commands.items():
                printed, _, peak = measured([*command, dtype, *numbers])
                found[name].append({**json.loads(printed.splitlines()[-1]), "peak": peak})
        flops = images * found["ours"][0]["flops"]
        for name, results in found.items():
            convolving = convolutions([*commands[name], dtype, *numbers])
            seconds = [result["seconds"] for result in results]
            peers = [result["seconds"] for result in found["PyTorch"]]
            matrix = [result["matrix"] for result in results]
            rates = [flops / s for s in seconds]
            rows.append(
                {
                    "contestant": f"{name}, {dtype}",
                    "images/s": quartiles([images / s for s in seconds]),
                    "ms an image": quartiles([1000 * s / images for s in seconds]),
                    "of it convolutions": convolving,
                    "time over PyTorch's": ratios(seconds, peers),
                    "share of the matrix rate": ratios(rates, matrix),
                    "matrix rate, Gflop/s": quartiles([rate / 1e9 for rate in matrix]),
                    "peak MiB": quartiles([result["peak"] for result in results]),
                }
            )
    about = f"MiniGoogLeNet, width 1, batch 64, random images, {REPEATS} repeats"
    write("throughput", rows, about, "time over PyTorch's")


if __name__ == "__main__":
    main()

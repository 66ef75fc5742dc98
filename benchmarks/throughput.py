"""Training throughput of MiniGoogLeNet at batch 64: ours against PyTorch eager, on the same cores.

python benchmarks/throughput.py [TORCH]    TORCH: an interpreter that has torch
"""

import json
import sys
from pathlib import Path

from harness import measured, quartiles, ratios, write

REPEATS, STEPS, EPOCHS = 3, 10, 2
MATRIX = 4096  # Side of the product that says what rate of arithmetic can be attained.
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measures in turn, prints and writes."""
    torch = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    commands = {
        "ours": [sys.executable, str(HERE / "train_keras.py")],
        "Keras's own normalisation": [sys.executable, str(HERE / "train_keras.py"), "--plain"],
        "PyTorch": [torch, str(HERE / "train_torch.py")],
    }
    images, rows = 64 * STEPS * EPOCHS, []
    for dtype in ("float32", "bfloat16"):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, command in commands.items():
                numbers = map(str, (STEPS, EPOCHS, MATRIX))
                printed, _, peak = measured([*command, dtype, *numbers])
                found[name].append({**json.loads(printed.splitlines()[-1]), "peak": peak})
        flops = images * found["ours"][0]["flops"]
        for name, results in found.items():
            seconds = [result["seconds"] for result in results]
            peers = [result["seconds"] for result in found["PyTorch"]]
            matrix = [result["matrix"] for result in results]
            rates = [flops / s for s in seconds]
            rows.append(
                {
                    "contestant": f"{name}, {dtype}",
                    "images/s": quartiles([images / s for s in seconds]),
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

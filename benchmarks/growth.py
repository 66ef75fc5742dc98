"""How an epoch's time and memory grow with the number of images and with the network's width.

python benchmarks/growth.py                  all of it
python benchmarks/growth.py IMAGES WIDTH     one point: prints the seconds of two epochs
"""

import sys
from pathlib import Path

from harness import measured, write

IMAGES = (2_000, 5_000, 10_000, 20_000, 50_000)
WIDTHS = (0.125, 0.25, 0.5, 1.0)


def epoch(images: int, width: float) -> float:
    """Returns the seconds of a training epoch, the second of two."""
    import time

    import keras
    import numpy as np

    import clr

    rng = np.random.default_rng(0)
    x, labels = rng.random((images, 32, 32, 3), "float32"), rng.integers(10, size=images)
    data = clr.datasets.from_arrays(
        *(x, labels, x[:64], labels[:64]), name="random", classes=tuple("0123456789")
    )
    del x
    model = clr.build(clr.Experiment(width=width), data)
    batches = clr.datasets.Batches(data.x_train, data.y_train, 64, 0)
    clock: list[float] = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: clock.append(time.perf_counter())
    )
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[note])
    return clock[1] - clock[0]


def main() -> None:
    """Measures, prints and writes; or measures one point."""
    if len(sys.argv) == 3:
        print(epoch(int(sys.argv[1]), float(sys.argv[2])))
        return
    points = [(images, 0.125) for images in IMAGES] + [(2_000, width) for width in WIDTHS[1:]]
    rows = []
    for images, width in points:
        here = str(Path(__file__).resolve())
        printed, _, peak = measured([sys.executable, here, str(images), str(width)])
        seconds = float(printed.splitlines()[-1])
        rows.append({"images": images, "width": width, "seconds": seconds, "peak MiB": peak})
    write("growth", rows, "an augmented epoch of MiniGoogLeNet, batch 64, float32")


if __name__ == "__main__":
    main()

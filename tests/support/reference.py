"""The reference callback's formula, word for word, and random settings to hold ours against."""

import numpy as np


def reference_rate(i, base_lr, max_lr, step_size, mode, gamma):
    """The formula of bckenstler/CLR, in float64."""
    cycle = np.floor(1 + i / (2 * step_size))
    x = np.abs(i / step_size - 2 * cycle + 1)
    scale = {"triangular": 1.0, "triangular2": 1 / (2.0 ** (cycle - 1)), "exp_range": gamma**i}[
        mode
    ]
    return base_lr + (max_lr - base_lr) * np.maximum(0, 1 - x) * scale


def random_settings(mode, count, uneven=False, cycles=1000):
    """Yields (settings, iterations): bounds over ten decades, cycles up to number `cycles`."""
    random = np.random.default_rng([len(mode), uneven])
    for _ in range(count):
        max_lr = 10.0 ** random.uniform(-8, 2)
        up = int(random.integers(1, 5000))
        # Halves within a factor of 3 of each other: beyond, torch's own rounding passes 1e-12.
        down = int(random.integers(max(1, up // 3), 3 * up + 1)) if uneven else None
        settings = {
            "base_lr": max_lr * random.uniform(0, 1),
            "max_lr": max_lr,
            "step_size": up,
            "step_size_down": down,
            "mode": mode,
            "gamma": 1 - 10.0 ** random.uniform(-8, -2),
        }
        yield settings, random.integers(0, cycles * (up + (down or up)), size=8)

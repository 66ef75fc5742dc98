"""Writes torch_one_cycle.npz: what torch's OneCycleLR says, for machines without torch.

python tests/support/torch_one_cycle.py    (needs torch)
"""

import warnings
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".npz")
POINTS = 12


def random_settings(count=100):
    """Yields arguments for OneCyclePolicy and iterations, the phases' ends among them."""
    rng = np.random.default_rng(17)
    for number in range(count):
        three = bool(number % 2)
        setting = {
            "max_lr": float(10 ** rng.uniform(-5, 1)),
            "total_steps": int(10 ** rng.uniform(1.5, 4)),
            "pct_start": float(rng.uniform(0.1, 0.45)),
            "anneal_strategy": ("cos", "linear")[number // 2 % 2],
            "div_factor": float(10 ** rng.uniform(0, 3)),
            "final_div_factor": float(10 ** rng.uniform(0, 6)),
            "three_phase": three,
            "base_momentum": float(rng.uniform(0.5, 0.85)),
            "max_momentum": float(rng.uniform(0.85, 0.99)),
        }
        total, rise = setting["total_steps"], setting["pct_start"] * setting["total_steps"]
        ends = [0, int(rise) - 1, int(rise), int(2 * rise) - 2, int(2 * rise) - 1, total - 1]
        others = rng.integers(0, total, POINTS - len(ends))
        yield setting, np.array([*(max(0, end) for end in ends), *others])


def torch_one_cycle():
    """Returns torch's rates and momenta, of shape (2, 100, 12)."""
    import torch

    rates, momenta = [], []
    for setting, iterations in random_settings():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, **setting)
        row = []
        for i in iterations:
            scheduler.last_epoch = int(i)
            rate = scheduler.get_lr()[0]
            row.append((float(rate), float(optimizer.param_groups[0]["momentum"])))
        rates.append([rate for rate, _ in row])
        momenta.append([momentum for _, momentum in row])
    return np.array([rates, momenta], dtype="float64")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch warns of get_lr() outside step().
    np.savez_compressed(STORED, torch_one_cycle())

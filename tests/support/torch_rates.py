"""Writes torch_rates.npz: what torch's CyclicLR says, for machines without torch.

python tests/support/torch_rates.py    (needs torch)
"""

import warnings
from pathlib import Path

import numpy as np
from reference import random_settings

STORED = Path(__file__).with_suffix(".npz")


def torch_rates(mode):
    """Returns torch's rates for 1,000 random settings, of shape (1000, 8)."""
    import torch

    rows = []
    for settings, iterations in random_settings(mode, 1000, uneven=True):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = torch.optim.lr_scheduler.CyclicLR(
            optimizer,
            settings["base_lr"],
            settings["max_lr"],
            step_size_up=settings["step_size"],
            step_size_down=settings["step_size_down"],
            mode=mode,
            gamma=settings["gamma"],
            cycle_momentum=False,
        )
        row = []
        for i in iterations:
            scheduler.last_epoch = int(i)
            row.append(scheduler.get_lr()[0])
        rows.append(row)
    return np.array(rows, dtype="float64")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch warns of get_lr() outside step().
    np.savez_compressed(
        STORED, **{m: torch_rates(m) for m in ("triangular", "triangular2", "exp_range")}
    )

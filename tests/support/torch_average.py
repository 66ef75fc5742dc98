"""Writes torch_average.npz: what torch's AveragedModel and update_bn say, for machines without it.

python tests/support/torch_average.py    (needs torch)
"""

from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".npz")
NETWORKS, BATCH = 5, 32
SHAPES = {"kernel": (4, 8), "gamma": (8,), "beta": (8,), "last_kernel": (8, 3), "last_bias": (3,)}


def networks():
    """Returns the weights of each network that is averaged, by name."""
    random = np.random.default_rng(3)
    return [
        {name: random.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}
        for _ in range(NETWORKS)
    ]


def batches():
    """Returns the data, batch by batch, each about another mean."""
    random = np.random.default_rng(4)
    return [random.normal(n, 1 + n, size=(BATCH, 4)).astype("float32") for n in range(4)]


def torch_average():
    """Returns torch's averaged weights, its statistics and its outputs, by name."""
    import torch
    from torch.optim.swa_utils import AveragedModel, update_bn

    first, last = torch.nn.Linear(4, 8, bias=False), torch.nn.Linear(8, 3)
    norm = torch.nn.BatchNorm1d(8, eps=1e-3)
    model = torch.nn.Sequential(first, norm, torch.nn.ReLU(), last)
    parameters = [first.weight, norm.weight, norm.bias, last.weight, last.bias]
    average = AveragedModel(model)
    for network in networks():
        with torch.no_grad():
            for parameter, value in zip(parameters, network.values(), strict=True):
                parameter.copy_(
                    torch.from_numpy(value).T if value.ndim > 1 else torch.tensor(value)
                )
        average.update_parameters(model)
    data = [torch.from_numpy(batch) for batch in batches()]
    update_bn(data, average)
    average.eval()
    found = dict(zip(SHAPES, [p.detach().numpy().T for p in average.parameters()], strict=True))
    norm = average.module[1]
    found["mean"] = norm.running_mean.numpy()
    found["variance"] = norm.running_var.numpy() * (BATCH - 1) / BATCH  # Keras's have n below.
    norm.running_var.copy_(torch.from_numpy(found["variance"]))
    found["outputs"] = average(torch.cat(data)).detach().numpy()
    return found


if __name__ == "__main__":
    np.savez_compressed(STORED, **torch_average())

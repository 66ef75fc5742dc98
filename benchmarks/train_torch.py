"""PyTorch's side of throughput.py: MiniGoogLeNet, eager, channels_last, torch's CyclicLR.

python benchmarks/train_torch.py float32|bfloat16 STEPS EPOCHS MATRIX    (needs torch alone)
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Conv(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs, filters, size, stride=1, padding="same"):
        super().__init__(
            nn.Conv2d(inputs, filters, size, stride, padding),
            nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01),
            nn.ReLU(inplace=True),
        )


class Inception(nn.Module):
    """1x1 and 3x3 side by side."""

    def __init__(self, inputs, ones, threes):
        super().__init__()
        self.ones, self.threes = Conv(inputs, ones, 1), Conv(inputs, threes, 3)

    def forward(self, x):
        return torch.cat([self.ones(x), self.threes(x)], dim=1)


class Downsample(nn.Module):
    """3x3 with stride 2 beside max pooling."""

    def __init__(self, inputs, filters):
        super().__init__()
        self.conv = Conv(inputs, filters, 3, 2, 0)

    def forward(self, x):
        return torch.cat([self.conv(x), functional.max_pool2d(x, 3, 2)], dim=1)


def network():
    """Returns the network of clr.MiniGoogLeNet, 1,656,250 parameters."""
    stack, channels = [Conv(3, 96, 3)], 96
    plan = [(32, 32), (32, 48), 80, (112, 48), (96, 64), (80, 80), (48, 96), 96]
    for step in [*plan, (176, 160), (176, 160)]:
        if isinstance(step, int):
            stack.append(Downsample(channels, step))
            channels += step
        else:
            stack.append(Inception(channels, *step))
            channels = sum(step)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, 10)]
    return nn.Sequential(*stack, *head)


def matrix_rate(dtype, side):
    """Returns the flop/s of a large matrix product: the best of several."""
    a = torch.randn(side, side).to(getattr(torch, dtype))
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        torch.matmul(a, a)
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


def main():
    """Trains and prints."""
    dtype, (steps, epochs, side) = sys.argv[1], map(int, sys.argv[2:])
    model = network().to(memory_format=torch.channels_last).train()
    # As Keras counts: moving averages included.
    kept = [v for name, v in model.state_dict().items() if "num_batches" not in name]
    assert sum(value.numel() for value in kept) == 1_656_250
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-7, 1e-2, steps, cycle_momentum=False)
    x = torch.rand(64 * steps, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (64 * steps,))

    def epoch():
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            schedule.step()

    epoch()
    begin = time.perf_counter()
    for _ in range(epochs):
        epoch()
    seconds = time.perf_counter() - begin
    result = {"seconds": seconds, "matrix": matrix_rate(dtype, side)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

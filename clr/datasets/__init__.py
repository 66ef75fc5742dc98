"""Image data sets, ready for training: CIFAR-10, digits that need no download, your own folder."""

from clr.datasets.dataset import CIFAR10_CLASSES as CIFAR10_CLASSES
from clr.datasets.dataset import LOADERS as LOADERS
from clr.datasets.dataset import REPORTED as REPORTED
from clr.datasets.dataset import (
    Batches,
    Dataset,
    augmentation,
    cifar10,
    digits,
    image_folder,
    load,
    prepare,
)

__all__ = [
    "Batches",
    "Dataset",
    "augmentation",
    "cifar10",
    "digits",
    "image_folder",
    "load",
    "prepare",
]

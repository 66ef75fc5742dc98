"""Image data sets, ready for training: CIFAR-10, digits that need no download, your own folder."""

from clr.datasets.dataset import REPORTED as REPORTED
from clr.datasets.dataset import Dataset, from_arrays
from clr.datasets.feeding import Batches, augmentation
from clr.datasets.folder import image_folder
from clr.datasets.named import CIFAR10_CLASSES as CIFAR10_CLASSES
from clr.datasets.named import LOADERS as LOADERS
from clr.datasets.named import cifar10, digits, load

prepare = from_arrays  # Its first name, which `clr.prepare` has, too.

__all__ = [
    "Batches",
    "Dataset",
    "augmentation",
    "cifar10",
    "digits",
    "from_arrays",
    "image_folder",
    "load",
]

"""Whether images and labels are CIFAR-10's own, and if not, how they differ."""

import hashlib

import numpy as np

BATCH = 10_000  # Images in each of the official files.
# In cifar-10-binary.tar.gz: the SHA-1 of data_batch_1.bin to data_batch_5.bin, then of
# test_batch.bin.
TRAIN = (
    "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "26e2849e66a845b7f1e4614ae70f4889ae604628",
)
TEST = ("67eb016db431130d61cd03c7ad570b013799c88c",)
# Computed from those files, to tell what differs: the SHA-1 of all labels, of the images' own
# SHA-1s, and of the same sorted, so that the order does not matter.
LABELS = "61169c6f7599c2e65bb72997f22c1a340ed4301b"
IMAGES = "a57a90ad179b484f8a9c27415bd8af77b3498318"
IMAGES_IN_ANY_ORDER = "42f98b1f6c59beea558f1b20c619b1e422af4777"


def difference(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> str:
    """Returns how the data differ from CIFAR-10's own, or `""` if they don't.

    Args:
        x_train: Training images, uint8 of shape (examples, 32, 32, 3).
        y_train: Their labels, uint8 of shape (examples,) or (examples, 1).
        x_test: Test images, like `x_train`.
        y_test: Their labels, like `y_train`.
    """
    if len(x_train) < len(x_test) and not difference(x_test, y_test, x_train, y_train):
        return "the training and the test images are exchanged"
    train, test = BATCH * len(TRAIN), BATCH * len(TEST)
    for what, first, second in (("images", x_train, x_test), ("labels", y_train, y_test)):
        if (len(first), len(second)) != (train, test):
            return (
                f"it has {len(first):,} training and {len(second):,} test {what}, "
                f"not {train:,} and {test:,}"
            )
    # As in the official files: the label's byte, then the image's red, green and blue ones.
    records = np.empty((train + test, 1 + 32 * 32 * 3), "uint8")
    records[:, 0] = np.concatenate([y_train.reshape(-1), y_test.reshape(-1)])
    for images, at in ((x_train, records[:train]), (x_test, records[train:])):
        at[:, 1:] = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    batches = np.split(records, len(TRAIN + TEST))
    sums = [_sha1(batch.tobytes()) for batch in batches]
    changed = sum(found != own for found, own in zip(sums, TRAIN + TEST, strict=True))
    if not changed:
        return ""
    where = f"in {changed} of {len(sums)} batches"
    own_labels = _sha1(records[:, 0].tobytes()) == LABELS
    hashes = [hashlib.sha1(record[1:].tobytes()).digest() for record in records]
    if _sha1(b"".join(hashes)) == IMAGES:
        return f"the images are CIFAR-10's, the labels are not, {where}"
    if _sha1(b"".join(sorted(hashes))) == IMAGES_IN_ANY_ORDER:
        than = " than their labels" if own_labels else ""
        return f"it has the same images in another order{than}, {where}"
    if own_labels:
        return (
            f"the labels are CIFAR-10's, the images are not, {where}: changed or re-encoded with "
            "loss, perhaps"
        )
    return f"neither the images nor the labels are CIFAR-10's, {where}"


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()

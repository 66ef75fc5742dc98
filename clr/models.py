"""`MiniGoogLeNet`, the network of the experiments."""

import random
from typing import Any

import keras
from keras import layers

from clr import checks
from clr.normalization import batch_normalization

CHANNELS = -1  # The axis of the channels. The data format is said to each layer: users may set it.
LAST = {"data_format": "channels_last"}


def MiniGoogLeNet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    width: float = 1.0,
    dropout: float = 0.5,
    bn_momentum: float = 0.99,
    name: str = "mini_googlenet",
) -> keras.Model:
    """Returns the small Inception-style network of Zhang et al. (2017), for images of 32x32 up.

    The name MiniGoogLeNet is that of the PyImageSearch tutorial (Rosebrock, 2019).

    At 32x32x3, 10 classes and width 1 it has 1,656,250 parameters. The output is a softmax in
    float32 (also under mixed precision) over `classes`, two classes included: train those with
    one-hot labels and binary cross-entropy, which for a two-way softmax equals the categorical one.

    Args:
        input_shape: Height, width and channels of an image; height and width at least 32. Global
            average pooling makes any size right.
        classes: Number of classes, at least 2. Defaults to `10`.
        width: Multiplies every layer's number of filters. Defaults to `1.0`.
        dropout: Share of features dropped before the last layer, in [0, 1). Defaults to `0.5`.
        bn_momentum: Share that batch normalisation keeps of its moving averages with each update,
            in [0, 1). Defaults to Keras's `0.99`, which lags where epochs have few iterations.
        name: The model's name.

    Returns:
        A `keras.Model` from `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An image below 32x32, fewer than two classes, or another argument out of range.

    Source: Zhang et al., "Understanding deep learning requires rethinking generalization"
    (arXiv:1611.03530), appendix A.
    """
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 3:
        raise ValueError(
            "`input_shape` must be (height, width, channels). "
            f"Received: input_shape={input_shape!r}"
        )
    height, across, channels = (checks.count("input_shape", n) for n in input_shape)
    if min(height, across) < 32:
        raise ValueError(
            f"`input_shape` must be at least 32x32. Received: input_shape={input_shape!r}"
        )
    classes = checks.count("classes", classes, minimum=2)
    width = checks.above("width", width)
    dropout = checks.share("dropout", dropout)
    bn_momentum = checks.share("bn_momentum", bn_momentum)

    def conv(x: Any, filters: int, size: int, strides: int = 1, padding: str = "same") -> Any:
        x = layers.Conv2D(scaled(filters), size, strides, padding, **LAST)(x)
        x = batch_normalization(bn_momentum)(x)
        return layers.ReLU()(x)

    def inception(x: Any, ones: int, threes: int) -> Any:
        return layers.Concatenate(CHANNELS)([conv(x, ones, 1), conv(x, threes, 3)])

    def downsample(x: Any, filters: int) -> Any:
        halved = conv(x, filters, 3, strides=2, padding="valid")
        return layers.Concatenate(CHANNELS)([halved, layers.MaxPooling2D(3, 2, **LAST)(x)])

    def scaled(filters: int) -> int:
        return max(1, round(filters * width))

    inputs = keras.Input((height, across, channels))
    x = conv(inputs, 96, 3)
    x = inception(x, 32, 32)
    x = inception(x, 32, 48)
    x = downsample(x, 80)
    for ones, threes in [(112, 48), (96, 64), (80, 80), (48, 96)]:
        x = inception(x, ones, threes)
    x = downsample(x, 96)
    for _ in range(2):
        x = inception(x, 176, 160)
    x = layers.GlobalAveragePooling2D(**LAST)(x)
    # The seed that Keras would draw by itself. On PyTorch only a layer that was given one keeps its
    # place in the random numbers in a variable, where a checkpoint finds it.
    x = layers.Dropout(dropout, seed=random.randint(1, 10**9))(x)
    if classes == 2:
        # The softmax, as sigmoids of the logits' difference: Keras takes a binary cross-entropy
        # from the logits that it remembers, each by its sigmoid, whatever made the output.
        logits = layers.Dense(2, dtype="float32")(x)
        logits -= keras.ops.flip(logits, axis=-1)
        outputs = layers.Activation("sigmoid", dtype="float32")(logits)
    else:
        outputs = layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=name)

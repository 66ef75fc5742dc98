"""What a test needs of Keras's backend, each with the reason for which it is skipped elsewhere."""

import keras
import pytest

BACKEND = keras.backend.backend()
TENSORFLOW = BACKEND == "tensorflow"
needs_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="speaks TensorFlow")
needs_steps_per_execution = pytest.mark.skipif(
    BACKEND == "torch", reason="Keras on PyTorch refuses steps_per_execution above 1"
)

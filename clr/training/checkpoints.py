"""Checkpoints at epochs' ends: all that it takes to go on as if training had not stopped."""

import json
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clr.files import check_writable, read_arrays, write_arrays
from clr.training.bounds import FoundBounds
from clr.training.experiment import Experiment, is_auto

CHECKPOINTS_KEPT = 2  # The last may be damaged.


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, and finds the last one that is whole.

    A checkpoint holds the model's variables (seeds of dropout and augmentation among them), the
    optimizer's (its count of updates, and so the place in the cycle, among them), and the history.
    The batches' order follows from the experiment's seed and the epoch's number. With
    `max_lr="auto"` it also holds the bounds that were found.

    Args:
        folder: Where they are. Made if it is not there.
        experiment: What is trained. A folder belongs to one experiment.

    Attributes:
        history: What `fit` has returned for the epochs so far, as lists.
        seconds: Wall time of the epochs so far.
        bounds: The bounds that a range test found for the experiment, to be kept. `None` if its
            bounds are numbers.

    Raises:
        ValueError: The folder can't be written to.
    """

    def __init__(self, folder: str | Path, experiment: Experiment):
        super().__init__()
        self.folder, self.experiment = Path(folder), experiment
        self.history: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.bounds: FoundBounds | None = None
        self._restored: list[tuple[Any, np.ndarray]] = []  # Variables and their values.
        check_writable(self.folder)

    def bounds_before(self) -> FoundBounds | None:
        """Returns the bounds that the last readable checkpoint holds, or `None` without one.

        Raises:
            ValueError: The folder holds checkpoints of another experiment.
        """
        for path in sorted(self.folder.glob("checkpoint-*.npz"), reverse=True):
            try:
                header, _ = _read(path)
            except Exception:  # `resume` warns of it.
                continue
            self._require_own(header)
            return header.get("bounds")
        return None

    def resume(self, model: keras.Model) -> int:
        """Puts a compiled model into the state of the last whole checkpoint.

        A damaged checkpoint is passed over for the one before it, with a warning.

        Args:
            model: The model of the experiment, as `build` makes it.

        Returns:
            How many epochs it has been trained for, 0 without a checkpoint.

        Raises:
            ValueError: The folder holds checkpoints of another experiment.
        """
        for half_written in self.folder.glob(".*.npz.*"):  # By a process that was killed at it.
            half_written.unlink()
        model.optimizer.build(model.trainable_variables)
        for path in sorted(self.folder.glob("checkpoint-*.npz"), reverse=True):
            try:
                header, arrays = _read(path)
                variables = _variables(model)
                if len(arrays) == len(variables) + 1:
                    # Written while a callback set the rate: the optimizer kept it, second of all.
                    del arrays[len(model.variables) + 1]
                shapes = [tuple(variable.shape) for variable in variables]
                if header["experiment"] == asdict(self.experiment) and (
                    [array.shape for array in arrays] != shapes
                ):
                    raise ValueError("it holds other variables than the model")
            # Damage shows as errors of zipfile, zlib, json, ... as well.
            except Exception as error:
                warnings.warn(
                    f"{path} is damaged and passed over: {type(error).__name__}: {error}",
                    stacklevel=3,
                )
                continue
            self._require_own(header)
            self._restored = list(zip(variables, arrays, strict=True))
            self._restore()
            self.history, self.seconds = header["history"], header["seconds"]
            return header["epoch"]
        return 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the clock."""
        # Again: on PyTorch `fit` has called the model by now, and dropout has drawn a number more.
        self._restore()
        self._restored = []
        self._started = time.perf_counter() - self.seconds

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the checkpoint and removes those that are no longer needed.

        Raises:
            OSError: It can't be written. Those before it are intact, and to start the training
                again goes on from there.
        """
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.seconds = time.perf_counter() - self._started
        header = {
            "epoch": epoch + 1,
            "experiment": asdict(self.experiment),
            "history": self.history,
            "seconds": self.seconds,
        }
        if self.bounds is not None:
            header["bounds"] = self.bounds.to_dict()
        arrays = map(keras.ops.convert_to_numpy, _variables(self.model))
        path = self.folder / f"checkpoint-{epoch + 1:05}.npz"
        write_arrays(path, arrays, said=np.array(json.dumps(header)))
        for old in sorted(self.folder.glob("checkpoint-*.npz"))[:-CHECKPOINTS_KEPT]:
            old.unlink()

    def _require_own(self, header: dict[str, Any]) -> None:
        if header["experiment"] != asdict(self.experiment):
            raise ValueError(
                "`run_dir` must be a new folder, or one with checkpoints of the same "
                f"experiment. Received: run_dir={str(self.folder)!r}, which holds those of "
                f"{header['experiment']}"
            )

    def _restore(self) -> None:
        for variable, array in self._restored:
            variable.assign(array)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    arrays, named = read_arrays(path)
    header = json.loads(str(named["said"]))
    if not isinstance(header["epoch"], int) or not isinstance(header["history"], dict):
        raise ValueError("its description is incomplete")
    header["seconds"] = float(header["seconds"])
    # An option that has come since then has its default: the training before it had no other.
    header["experiment"] = asdict(Experiment()) | header["experiment"]
    if is_auto(header["experiment"]["max_lr"]):
        header["bounds"] = FoundBounds.from_dict(header["bounds"])
    return header, arrays

"""`AtCycleEnds`: what keeps something of the network at the ends of cycles."""

import re
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from clr import optimizers
from clr.callback import CyclicLR
from clr.files import check_writable, read_arrays
from clr.schedule import CyclicalLearningRate

Cycle: TypeAlias = CyclicLR | CyclicalLearningRate


class AtCycleEnds(keras.callbacks.Callback):
    """Notices the end of each cycle, and which training run the cycles belong to.

    What is kept at an end is a subclass's affair: it fills in `_at_end`, `_forget`, `_leave_out`,
    `_read` and `_complaint`.

    Args:
        cycle: What sets the rate: a `CyclicLR`, which stands before this one in the list, or the
            optimizer's `CyclicalLearningRate`.
        folder: Where to keep files, so that a training run that is resumed has them all. Made if it
            is not there. `None` for memory alone.

    Raises:
        TypeError: `cycle` is neither of these.
        ValueError: The folder can't be written to; at the first epoch of `fit`, it holds files of
            another training run, or `cycle` does not set the rate there.
    """

    _file = "kept"  # What the names of its files begin with.
    _needs_cycle = True  # Or else counts epochs without one.

    def __init__(self, cycle: Cycle | None, folder: str | Path | None = None):
        super().__init__()
        if not isinstance(cycle, Cycle) and (self._needs_cycle or cycle is not None):
            raise TypeError(
                "`cycle` must be a CyclicLR or a CyclicalLearningRate"
                f"{'' if self._needs_cycle else ', or None'}. Received: cycle={cycle!r}"
            )
        self.cycle = cycle
        self.folder = None if folder is None else Path(folder)
        self._trained: tuple[Any, Any] | None = None  # The model of what is kept, its optimizer.
        self._follows_cycle: bool | None = None
        self._done: int | None = None
        self._has_ended = self._has_warned = False
        if self.folder is not None:
            check_writable(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle holds: all but the model."""
        without = {"_model": None, "params": None, "_trained": None, "_done": None}
        return {**self.__dict__, **without}

    def set_params(self, params: dict) -> None:
        """Notes whether `cycle` stands before this callback; Keras calls one after the other."""
        super().set_params(params)
        self._follows_cycle = getattr(self.cycle, "params", None) is params

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets what is of another model's training run."""
        now = self.model, self.model.optimizer
        if self._trained is not None and any(
            one is not other for one, other in zip(now, self._trained, strict=True)
        ):
            self._forget()
            self._trained, self._has_warned = None, False
        self._done, self._has_ended = None, False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Finds what belongs to the cycles that the training run has behind it, before its first.

        Raises:
            ValueError: `cycle` does not set the rate of this `fit`, or the folder holds files of
                another training run.
        """
        if self._done is None:
            self._require_cycle()
            self._begin(epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps what is to be kept, if a cycle has ended with this epoch or within it."""
        if self._done is None:
            raise RuntimeError(
                f"`{type(self).__name__}` counts from the first epoch's start. In a loop of your "
                "own call on_epoch_begin(epoch) before on_epoch_end(epoch)"
            )
        before, done = self._done, self._ends_before(epoch + 1)
        self._done = done
        if done < before:  # The count began anew.
            self._leave_out(done, _shapes(self.model.get_weights()))
        if done > before:
            self._has_ended = True
            self._at_end(done, before, epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Draws a warning if something is missing, once for a training run."""
        if self._done is None:  # No epoch was left to train.
            if getattr(self.cycle, "policy", True) is not None:
                self._begin(max(1, (self.params or {}).get("epochs") or 1))
        elif not self._has_warned and (complaint := self._complaint()):
            self._has_warned = True
            warnings.warn(complaint, stacklevel=2)

    def _at_end(self, done: int, before: int, epoch: int) -> None:
        """Keeps what is to be kept, now that so many cycles have ended."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Forgets everything."""
        raise NotImplementedError

    def _leave_out(self, done: int, shapes: list[tuple[int, ...]]) -> None:
        """Forgets what is of later cycles, or of a network whose weights have other shapes."""
        raise NotImplementedError

    def _read(self, paths: dict[int, Path], shapes: list[tuple[int, ...]]) -> None:
        """Reads the files, by cycle, that the training run has behind it."""
        raise NotImplementedError

    def _complaint(self) -> str | None:
        """Returns what is to be warned of at the end of `fit`."""
        raise NotImplementedError

    def _is_replaceable(self, later: Path) -> bool:
        """Tells whether a run that has just begun may replace the last file of later cycles."""
        return False

    def _begin(self, epoch: int) -> None:
        """Keeps what belongs to this training run, from memory and from the folder."""
        self._done = done = self._ends_before(epoch)
        shapes = _shapes(self.model.get_weights())
        self._leave_out(done, shapes)
        if self.folder is not None:
            paths = self._paths()
            self._read({n: path for n, path in paths.items() if n <= done}, shapes)
            later = [path for number, path in paths.items() if number > done]
            if later and self._trained is None:  # Else its own, of a former `fit`.
                self._check_later(later, done, epoch)
        self._trained = self.model, self.model.optimizer

    def _check_later(self, later: list[Path], done: int, epoch: int) -> None:
        has_begun = bool(done or epoch)
        if isinstance(self.cycle, CyclicalLearningRate):  # It goes by the optimizer's count.
            has_begun = optimizers.batches(self.model.optimizer) > 0
        if not has_begun and not self._is_replaceable(later[-1]):
            raise self._of_another_run(later[0], "and this one has just begun")
        of_later, ends = ("epoch", "made") if self.cycle is None else ("cycle", "ended")
        warnings.warn(
            f"{later[0]} is of a later {of_later} than this training run has {ends}, {done}. It is "
            f"not used, and replaced as soon as that {of_later} ends.",
            stacklevel=5,
        )

    def _arrays(
        self, path: Path, shapes: list[tuple[int, ...]]
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]] | None:
        """Returns what is in a file, or `None` with a warning if it is damaged."""
        try:
            weights, named = read_arrays(path)
        except Exception as error:  # Damage shows as errors of zipfile, zlib, NumPy, ...
            warnings.warn(
                f"{path} is damaged and passed over: {type(error).__name__}: {error}",
                stacklevel=6,
            )
            return None
        if _shapes(weights) != shapes:
            raise self._of_another_run(path, "whose weights have other shapes")
        return weights, named

    def _of_another_run(self, path: Path, because: str) -> ValueError:
        return ValueError(
            "`folder` must be a new one, or the one of the training run that goes on: name "
            f"another, or move its {self._file}s away. Received: folder={str(self.folder)!r}, "
            f"which holds {path.name} of another training run, {because}"
        )

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{self._file}-{number:03}.npz"

    def _paths(self) -> dict[int, Path]:
        """Returns the folder's files by the number of their cycle, in order."""
        assert self.folder is not None
        found = self.folder.glob(f"{self._file}-*.npz")
        return dict(sorted((int(re.findall(r"\d+", path.stem)[-1]), path) for path in found))

    def _ends_before(self, epoch: int) -> int:
        """Returns how many cycles have ended, or epochs without one, as this epoch begins."""
        if self.cycle is None:
            return epoch
        if isinstance(self.cycle, CyclicLR):
            return self.cycle.cycles_done()
        return self.cycle.policy.cycles_before(optimizers.batches(self.model.optimizer))

    def _require_cycle(self) -> None:
        """Raises an error if the rate comes from elsewhere: there would be no cycles to end."""
        if self.cycle is None:
            return
        if isinstance(self.cycle, CyclicalLearningRate):
            used = optimizers.schedule(self.model.optimizer)
            if used is not self.cycle:
                raise ValueError(
                    "`cycle` must be the schedule that the model's optimizer has. "
                    f"Received: cycle={self.cycle!r}, where the optimizer has {used!r}"
                )
        elif (
            self._follows_cycle is False
            or self.cycle.model is not self.model
            or self.cycle.policy is None
        ):
            name = type(self).__name__
            raise ValueError(
                f"`cycle` must stand before {name} in the list of callbacks of the same fit, "
                f"because {name} counts its cycles. "
                f"Received: callbacks of which cycle={self.cycle!r} is not an earlier one"
            )


def _shapes(weights: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in weights]

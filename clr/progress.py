"""How far long work is: a bar where somebody watches, which is gone when the work is done."""

import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import keras

INTERVAL = 0.25  # Seconds from one look to the next: each takes a millisecond or two.


class Clock:
    """Prints as the time since it was made, in hours, minutes and seconds."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The time since it was made."""
        return time.perf_counter() - self._begun

    def __str__(self) -> str:
        return in_words(self.seconds)


def in_words(seconds: float) -> str:
    """Returns a duration as hours, minutes and seconds: `0:02:05`."""
    return str(timedelta(seconds=round(seconds)))


class Bar:
    """The steps done of how many, and the time left.

    It is shown on a terminal, and in a notebook that somebody has open. A file, a pipe and a
    notebook that a program executes hold nothing of it.

    Args:
        is_on: Whether to show it where somebody watches.
    """

    def __init__(self, is_on: bool = True):
        self._is_on = is_on and is_watched()
        self._due = 0.0
        self._bar: Any = None

    def __enter__(self) -> "Bar":
        with ExitStack() as stack:
            if self._is_on:
                self._open(stack)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar = None
        self._closing.close()

    def _open(self, stack: ExitStack) -> None:
        from rich import progress  # Keras brings it.
        from rich.console import Console

        self._bar = progress.Progress(
            "{task.description}",
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            "{task.fields[detail]}",
            console=Console(force_jupyter=False),
            transient=True,
            auto_refresh=False,
            redirect_stderr=sys.stderr.isatty(),
        )
        if _has_open_notebook():
            from IPython.display import display

            handle = display(self._bar, display_id=True)
            stack.callback(handle.update, {"text/plain": ""}, raw=True)
            self._show = lambda: handle.update(self._bar)
            return
        self._show = self._bar.refresh
        stack.enter_context(self._bar)
        self._bar.console.show_cursor(True)  # A killed process could not show it again.

    def begin(self, work: str, steps: int | None) -> None:
        """Begins other work, so many steps of it. `None` if that is not known."""
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._task = self._bar.add_task(work, total=steps, detail="")
            self._show()

    def update(self, done: int, detail: str = "") -> None:
        """Shows how many steps are done, unless it was shown just now."""
        if self._bar is None or (now := time.perf_counter()) < self._due:
            return
        self._due = now + INTERVAL
        self._bar.update(self._task, completed=done, detail=detail)
        self._show()


class Batches(keras.callbacks.Callback):
    """Shows the batches of a training run on a bar.

    It looks when a batch begins, in the loop's own thread, and at no result: to look at one waits
    for the device.

    Args:
        bar: The bar, shown.
        work: What it says before the batches.
    """

    def __init__(self, bar: Bar, work: str = ""):
        super().__init__()
        self.bar, self.work = bar, work

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Begins the epoch's batches."""
        self.bar.begin(self.work, self.params.get("steps"))

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Shows the batches before this one."""
        self.bar.update(batch)


def is_watched() -> bool:
    """Tells whether somebody sees now what is printed."""
    return sys.stdout.isatty() or _has_open_notebook()


def _has_open_notebook() -> bool:
    """Tells whether this is a notebook's kernel, and somebody could answer an `input()` there.

    Nobody can where Papermill, nbclient or nbval execute the notebook, and they say so.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    kernel = getattr(shell, "kernel", None)
    request = kernel.get_parent("shell") if kernel is not None else {}
    return bool(request.get("content", {}).get("allow_stdin"))

"""How far long work is: a bar where somebody watches, and of that nothing afterwards."""

import io
import re
import sys
import types

import keras
import numpy as np
import pytest
from small_data import SMALL, subset

from clr import lr_range_test, progress, train
from clr.progress import Bar, Batches

pytestmark = pytest.mark.usefixtures("eager")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Opens one, in the test: pytest has its own standard output until then."""
    monkeypatch.setattr(progress, "INTERVAL", 0)
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)

    def open_one():
        monkeypatch.setattr(sys, "stdout", Terminal())
        return sys.stdout

    return open_one


def screen(written):
    """The lines that are left on a terminal."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|[^\x1b]", written):
        if token == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            rows[row] = ""
        elif token == "\x1b[1A":
            row -= 1
        elif not token.startswith("\x1b"):
            rows[row] = rows[row].ljust(column)[:column] + token + rows[row][column + 1 :]
            column += 1
    return [line for line in rows if line]


def lines(said):
    """Without what differs from one training to the next."""
    return [re.sub(r"\d\S*", "", line).split() for line in said]


def test_a_terminal_shows_the_batches_and_keeps_a_line_for_each_epoch(on_terminal):
    terminal = on_terminal()
    train(SMALL, subset(128, 40))
    written = terminal.getvalue()
    for epoch in (1, 2):
        for batch in range(4):
            assert re.search(rf"epoch {epoch}/2 [^\r]*{batch}/4 [\d-]:[\d-]+:[\d-]+", written)
        assert re.search(rf"epoch {epoch}/2, test images [^\r]*0/\?", written)
    assert len(screen(written)) == 2
    assert sys.stdout is terminal and written.endswith("\x1b[2K")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        train(SMALL, subset(128, 40))
        in_a_file = sys.stdout.getvalue()
    assert set(in_a_file) & {"\x1b", "\r", "\b"} == set()
    assert lines(in_a_file.splitlines()) == lines(screen(written))


def test_a_range_test_shows_its_steps_its_trials_and_what_came_of_it(on_terminal):
    terminal = on_terminal()
    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    result = lr_range_test(model, x, x.sum(axis=1, keepdims=True), num_steps=60)
    written, tried = terminal.getvalue(), len(result.trials) - 1
    assert re.search(r"range test [^\r]*20/60 .* loss \S+, rate \d\.\de-\d\d", written)
    for trial in range(1, tried + 1):
        assert re.search(rf"trial {trial} of at most 6, up to [^\r]*7/\d", written)
    (left,) = screen(written)
    assert re.fullmatch(rf"Range test: \d+ of 60 steps \(.*\), {tried} trials, 0:\d\d:\d\d", left)


def test_what_others_print_stands_above_the_bar(on_terminal):
    terminal = on_terminal()
    with Bar() as bar:
        bar.begin("work", 3)
        print("something else")
    assert screen(terminal.getvalue()) == ["something else"]


def test_an_error_gives_the_terminal_back(on_terminal):
    terminal = on_terminal()
    with pytest.raises(KeyboardInterrupt), Bar() as bar:
        bar.begin("work", 3)
        raise KeyboardInterrupt
    assert sys.stdout is terminal and screen(terminal.getvalue()) == []


def test_a_step_is_shown_only_now_and_then(on_terminal, monkeypatch):
    terminal = on_terminal()
    monkeypatch.setattr(progress, "INTERVAL", 3600)
    with Bar() as bar:
        bar.begin("work", 1000)
        bar.update(1)
        before = len(terminal.getvalue())
        for done in range(2, 1000):
            bar.update(done)
        assert len(terminal.getvalue()) == before


def test_no_result_is_looked_at():
    # Keras waits for the device before it calls a hook at a batch's end.
    for hook in ("on_train_batch_end", "on_test_batch_end"):
        assert getattr(Batches, hook) is getattr(keras.callbacks.Callback, hook)


@pytest.mark.parametrize("allow_stdin", [True, False])
def test_a_notebook_has_a_bar_if_somebody_could_answer_an_input(allow_stdin, monkeypatch):
    shown = []

    class Handle:
        def update(self, data, raw=False):
            shown.append(data if raw else "bar")

    def display(data, display_id):
        shown.append("bar")
        return Handle()

    request = {"content": {"allow_stdin": allow_stdin}}
    kernel = types.SimpleNamespace(get_parent=lambda channel: {"shell": request}[channel])
    shell = types.SimpleNamespace(kernel=kernel)
    fake = types.SimpleNamespace(
        get_ipython=lambda: shell, display=types.SimpleNamespace(display=display)
    )
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake.display)
    with Bar() as bar:
        bar.begin("work", 3)
    assert shown == (["bar", "bar", {"text/plain": ""}] if allow_stdin else [])

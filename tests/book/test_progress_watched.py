"""What a terminal shows of a training, and what an open notebook does, in real ones."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (
    "import clr; from small_data import SMALL, subset; from dataclasses import replace;"
    "clr.train(replace(SMALL, width=0.05, num_epochs=3, augment=False, clr_method='constant'),"
    "subset(128, 10), run_dir={!r})"
)
BAR = "import clr.progress\nwith clr.progress.Bar() as bar:\n    bar.begin('work', 3)"


def test_a_training_killed_and_resumed_shows_the_right_epoch(tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-c", TRAIN.format(str(tmp_path))]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while b"epoch 2/3" not in seen and (read := os.read(ours, 1024)):
        seen += read
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(ours)
    assert seen.rindex(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")  # The cursor is not hidden.
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    said = done.stdout.splitlines()
    assert said[0] == "going on after epoch 1 of 3", done.stderr
    assert [line.split("  ")[0] for line in said[1:]] == ["epoch 2/3", "epoch 3/3"]
    assert done.stdout.replace("\n", "").isprintable()


def test_a_kernel_shows_a_bar_to_somebody_and_to_no_program():
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT))
    try:
        for somebody in (True, False):
            shown = []
            client.execute_interactive(
                BAR, allow_stdin=somebody, output_hook=shown.append, timeout=300
            )
            kinds = [message["msg_type"] for message in shown if "data" in message["content"]]
            assert ("display_data" in kinds) == somebody, shown
            if somebody:
                assert shown[-2]["content"]["data"] == {"text/plain": ""}, shown
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

"""The machine a notebook runs on: its GPU, and what a disconnected session goes on from."""

import hashlib
import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from clr.training.experiment import Experiment, resolve_profile
from clr.training.machine import accelerators, hardware, in_words, versions
from clr.training.run import Run

ON_COLAB = "google.colab" in sys.modules  # Colab's kernels come with it.
DRIVE = Path("/content/drive")


def prepare(profile: str = "auto") -> None:
    """Makes the machine ready for a chapter, before anything is computed.

    TensorFlow takes a GPU's memory as it needs it, and not all of it at the start, unless the
    environment variable `TF_FORCE_GPU_ALLOW_GROWTH` says otherwise. It reads that when it first
    looks for GPUs, so a later call changes nothing. A profile made for a GPU draws a warning where
    there is neither GPU nor TPU, with the remedy.

    Args:
        profile: `"full"`, `"quick"`, `"recipe"` or `"auto"`; see `clr.resolve_profile`.

    Raises:
        ValueError: An unknown profile.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if (resolved := resolve_profile(profile)) != "quick" and not accelerators():
        warnings.warn(
            f"The {resolved} profile is made for a GPU, and there is none here. On Colab choose "
            "one with Runtime > Change runtime type, then Run all; or take the quick profile.",
            stacklevel=2,
        )


def made_with(profile: str = "auto", run: Run | None = None, data: str | None = None) -> str:
    """Returns a sentence on how a page was made, to stand at its end.

    Args:
        profile: The profile it was executed under, as for `resolve_profile`.
        run: The run it shows, if it trained one.
        data: What else it computed with, if not a run's data.
    """
    executed = f"Executed in the profile {resolve_profile(profile)!r}"
    if run is not None:
        return f"{executed}. {run.provenance()}"
    data = "without a data set" if data is None else f"on {data}"
    return f"{executed}, {data}. {in_words(hardware(), versions())}."


def run_dir(
    experiment: Experiment, folder: str | Path | None = None, drive: bool = False
) -> Path | None:
    """Returns the folder for an experiment's checkpoints, to pass to `clr.train`.

    Each experiment has one of its own, so that going on with one and beginning another need no
    other folder. What is kept on Colab itself outlives a kernel that was restarted; what is kept
    on Google Drive, also a runtime that was taken away.

    Args:
        experiment: What is trained.
        folder: What holds these folders; with `drive`, on the Drive. Defaults to `clr-runs` on
            Colab and to no checkpoints elsewhere.
        drive: Whether to mount Google Drive, which only Colab can, and keep them there.

    Returns:
        The folder, or `None` for no checkpoints.

    Raises:
        ValueError: `drive` elsewhere than on Colab.
    """
    if folder is None and (ON_COLAB or drive):
        folder = "clr-runs"
    if folder is None:
        return None
    if drive:
        if not ON_COLAB:
            raise ValueError(
                "`drive` must be False elsewhere than on Colab: name a `folder` of this machine. "
                f"Received: drive={drive!r}"
            )
        from google.colab import drive as google_drive

        google_drive.mount(str(DRIVE))
        folder = DRIVE / "MyDrive" / folder
    content = json.dumps(asdict(experiment), sort_keys=True).encode()
    return Path(folder) / f"{experiment.clr_method}-{hashlib.sha256(content).hexdigest()[:8]}"


def offer_download(path: str | Path | None) -> None:
    """Offers a file to the browser on Colab, where it would go with the runtime; else does nothing.

    Args:
        path: The file.
    """
    if ON_COLAB:
        from google.colab import files

        files.download(str(path))

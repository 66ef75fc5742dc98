"""The machine that code runs on, and the code itself: hardware, versions, commit."""

import os
import platform
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras

DISTRIBUTION = "keras-clr"


def accelerators() -> list[str]:
    """Returns the GPUs and TPUs that Keras sees, as `"gpu:0"`."""
    if keras.backend.backend() == "torch":
        import torch

        return [f"gpu:{i}" for i in range(torch.cuda.device_count())]
    return [d for d in keras.distribution.list_devices() if not d.lower().startswith("cpu")]


def hardware() -> dict[str, Any]:
    """Returns this machine's processor, number of cores and accelerators."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "accelerators": [_model_of(name) for name in accelerators()],
    }


def _model_of(accelerator: str) -> str:
    """Returns what an accelerator that Keras calls `"gpu:0"` is sold as, where that can be told."""
    number = int(accelerator.rsplit(":", 1)[1])
    match keras.backend.backend():
        case "jax":
            import jax

            return jax.devices()[number].device_kind
        case "torch":
            import torch

            return torch.cuda.get_device_name(number)
        case _:
            import tensorflow as tf

            kind = accelerator.split(":")[0].upper()
            device = tf.config.list_physical_devices(kind)[number]
            details = tf.config.experimental.get_device_details(device)
            return details.get("device_name", accelerator)


def versions() -> dict[str, str]:
    """Returns the versions of Python, of Keras, its backend, and of NumPy."""
    backend = keras.backend.backend()
    found = {"Python": platform.python_version()}
    for name in ("keras", backend, "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # Builds such as tensorflow-cpu go by another name.
            found[name] = getattr(sys.modules.get(name), "__version__", "unknown")
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def commit() -> str | None:
    """Returns the commit of this package's repository, or `None` where it does not run from one.

    Found once in a process, so that a commit made while it trains changes nothing. An installation
    inside another project's repository, or a copy in it, has no commit of its own.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["name"]
        top, head = (_git(root, what) for what in ("--show-toplevel", "HEAD"))
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError):
        return None
    ours = project == DISTRIBUTION and Path(top).resolve() == root
    return head if ours else None


def _git(folder: Path, what: str) -> str:
    # GIT_DIR and its like, as git's own hooks set them, would name another repository.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    command = ["git", "rev-parse", what]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def in_words(hardware: dict[str, Any], versions: dict[str, str]) -> str:
    """Returns processor, accelerators and versions as part of a sentence.

    Args:
        hardware: What `hardware` returned, perhaps elsewhere.
        versions: What `versions` returned.
    """
    devices = ", ".join(hardware["accelerators"]) or f"{hardware['cores']} cores, no GPU"
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{hardware['processor']}, {devices}; {libraries}"

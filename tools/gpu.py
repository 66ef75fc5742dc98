r"""Records the full-size runs of chapter 7 on a machine with a GPU and without a network.

    python tools/gpu.py --out OUT --minutes 9

It makes the study `full` of tools/record.py in `_build/gpu`: the most valuable run first, three
runs at once (`--jobs`). It stops after `--minutes`, and each run loses one epoch at most. The last
lines say what is done and what is missing. Call it again, and it goes on.

The steps:

1. On a machine with a network, make a folder `.carry` in a clone. Git ignores it. Put into it:

   - CIFAR-10: `cifar10.npz` as `clr.datasets.cifar10` reads it. If that file is too large to copy
     at once, put parts of it there instead, and a script `make_cifar10.py` that makes `cifar10.npz`
     in the folder it is called with.
   - Keras and those of its dependencies that the other machine lacks, as wheels for its Python and
     processor. For Python 3.12 on x86-64:

         python -m pip download --no-deps --only-binary=:all: --python-version 3.12 \
             --platform manylinux_2_28_x86_64 --dest .carry keras==3.15.1 namex optree

   - The commit, for the records of the runs, if `.git` is not copied along:
     `git rev-parse HEAD > .carry/commit.txt`

2. Copy the clone, with `.carry`, to the machine with the GPU. It must have JAX for its GPU, NumPy,
   scikit-learn, matplotlib and the rest of Keras's dependencies.

3. There, in the clone, call the command above. `OUT` then holds the finished runs in `runs.zip`. Of
   each unfinished run it holds the last checkpoint (13 MB) and the network at the end of each cycle
   (7 MB). If you can't copy all that back, say how much you can: `--files 8 --mib 64`. The script
   then leaves out what is worth least, and names it.

4. Copy `OUT` back. Put the runs into the book: `python -m zipfile -e OUT/runs.zip clr/runs/full`

5. If runs are missing, call the command again. On another machine, first put what you copied back
   into `.carry/out`. The runs go on from there, as they do from an `OUT` that is not empty. Runs
   that are in the book already are made again, unless that folder says that they are done:
   `python -m zipfile -c .carry/out/runs.zip clr/runs/full/*.json`

A rehearsal needs no GPU and ends in minutes. It keeps its runs in `_build/rehearsal`, and in a
folder `rehearsal` of `OUT`, so that none gets among the recorded ones:

    python tools/gpu.py --out OUT --minutes 5 --jobs 2 --width 0.125 --num-epochs 2
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tools" / "record.py"
BUILD = ROOT / "_build"
STUDY = "full"
FIND_GPU = "import jax, sys; sys.exit(jax.default_backend() == 'cpu')"
EVERY = 60  # Seconds from copy to copy: this program may be killed.
GRACE = 20  # Seconds that the recording has to stop.


def install(carried: Path) -> Path:
    """Returns a folder with the carried wheels, installed."""
    site = BUILD / "gpu" / "site"
    wheels = sorted(carried.glob("*.whl"))
    if wheels and not site.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        target = site.with_name("site.part")
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run([*pip, "--target", target, *wheels], check=True)
        target.rename(site)
    return site


def unpack(carried: Path) -> Path:
    """Returns the folder with CIFAR-10: carried as it is, or made from what was carried.

    Raises:
        FileNotFoundError: Neither the data nor the script that makes them is there.
    """
    name, script, made = "cifar10.npz", carried / "make_cifar10.py", BUILD / "gpu" / "data"
    if (carried / name).exists():
        return carried
    if (made / name).exists():
        return made
    if not script.exists():
        raise FileNotFoundError(
            f"`--carried` must be a folder with {name}, or with {script.name} and the parts that "
            f"it reads. Received: --carried {carried}"
        )
    part = made.with_name("data.part")
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run([sys.executable, script, part], check=True)
    part.rename(made)
    return made


def copy(source: Path, target: Path) -> None:
    """Copies a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)


def unfinished(runs: Path, checkpoints: Path) -> list[tuple[Path, int]]:
    """Returns each unfinished run's last checkpoint and its epoch, the furthest run first."""
    last = []
    for folder in checkpoints.glob("*"):
        saved = sorted(folder.glob("checkpoint-*.npz"))
        if saved and not (runs / f"{folder.name}.json").exists():
            last.append((saved[-1], int(saved[-1].stem.split("-")[1])))
    return sorted(last, key=lambda found: (-found[1], found[0]))


def collect(out: Path, runs: Path, checkpoints: Path, files: float, mib: float) -> list[Path]:
    """Copies the finished runs, and what the unfinished ones need to go on.

    Args:
        out: The folder to copy into. Former checkpoints are removed from it.
        runs: The folder of the study's runs.
        checkpoints: The folder of the study's checkpoints.
        files: How many files `out` may hold.
        mib: How many MiB they may have together.

    Returns:
        What is left out because there is no room for it.
    """
    out.mkdir(parents=True, exist_ok=True)
    part, archive = out / ".runs.zip.part", out / "runs.zip"
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as writer:
        for path in sorted(runs.glob("*.json")):
            writer.write(path, path.name)
    part.replace(archive)
    last = [path for path, _ in unfinished(runs, checkpoints)]
    snapshots = [path for found in last for path in sorted(found.parent.glob("snapshot-*.npz"))]
    room, left_out = mib * 2**20 - archive.stat().st_size, []
    chosen: dict[Path, Path] = {}
    for path in last + snapshots:
        size = path.stat().st_size
        if len(chosen) + 2 > files or size > room:  # One file is the archive.
            left_out.append(path)
            continue
        chosen[path] = out / path.relative_to(checkpoints)
        room -= size
    for old in set(out.glob("*/*.npz")) - set(chosen.values()):
        old.unlink()
    for path, target in chosen.items():
        # While the runs go on, a newer checkpoint may have taken its place.
        with contextlib.suppress(FileNotFoundError):
            if not target.exists():
                copy(path, target)
    return left_out


def take_up(out: Path, runs: Path, checkpoints: Path) -> None:
    """Puts what `collect` has copied to where the recording goes on from it."""
    if (out / "runs.zip").exists():
        with zipfile.ZipFile(out / "runs.zip") as archive:
            for name in archive.namelist():
                if not (runs / name).exists():
                    archive.extract(name, runs)
    for path in out.glob("*/*.npz"):
        target = checkpoints / path.relative_to(out)
        if not target.exists() and not (runs / f"{path.parent.name}.json").exists():
            copy(path, target)


def prepare(carried: Path, needs_gpu: bool) -> dict[str, str]:
    """Installs and unpacks what was carried, and returns the environment to record in.

    Args:
        carried: The folder with data and wheels.
        needs_gpu: Whether to refuse a machine without a GPU.

    Raises:
        FileNotFoundError: The data are not there.
        RuntimeError: JAX finds no GPU. By itself it would take the processor without a word.
    """
    # JAX takes seconds to look for a GPU. Meanwhile the data are unpacked.
    looking = [sys.executable, "-c", FIND_GPU if needs_gpu else ""]
    with subprocess.Popen(looking) as found:
        data = os.environ.get("CLR_DATA_DIR") or str(unpack(carried))
        paths = [str(ROOT), str(install(carried)), os.environ.get("PYTHONPATH", "")]
    if found.returncode:
        raise RuntimeError(
            "JAX finds no GPU on this machine. Without one, rehearse: --width 0.125 --num-epochs 2"
        )
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "CLR_DATA_DIR": data,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # The runs share the GPU's memory, and what one has compiled the others needn't.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(BUILD / "gpu" / "jax-cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    if (commit := carried / "commit.txt").exists():
        environment["CLR_COMMIT"] = commit.read_text().strip()
    return environment


def main() -> int:
    """Prepares the machine, makes the runs, and copies them into the output folder."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for what is to be copied back")
    add("--minutes", type=float, required=True, help="time to stop after, preparations included")
    add("--jobs", default="3", help="runs at once (default: 3)")
    add("--carried", type=Path, default=ROOT / ".carry", help="folder with data and wheels")
    add("--files", type=int, default=sys.maxsize, help="how many files the output may have")
    add("--mib", type=float, default=float("inf"), help="how many MiB the output may have")
    add("--width", help="in a rehearsal: the network's width")
    add("--num-epochs", help="in a rehearsal: the epochs of each run")
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error(f"--minutes must be above 0. Received: --minutes {options.minutes}")
    changes = {"width": options.width, "num-epochs": options.num_epochs}
    rehearsal = [f"--{name}={value}" for name, value in changes.items() if value is not None]
    formers, here = [options.carried / "out", options.out], BUILD / "gpu"
    if rehearsal:
        formers = [folder / "rehearsal" for folder in formers]
        here = BUILD / "rehearsal" / "".join(rehearsal).strip("-").replace("=", "-")
    # Not among the recorded runs: the runs in this clone may be older ones, to be replaced.
    runs, checkpoints = here / "runs", here / "checkpoints"
    out, folders = formers[-1], (runs / STUDY, checkpoints / STUDY)
    try:
        environment = prepare(options.carried, needs_gpu=not rehearsal)
    except (FileNotFoundError, RuntimeError) as error:
        parser.error(str(error))
    for former in formers:
        take_up(former, *folders)
    print(f"ready after {time.monotonic() - started:.0f} s", flush=True)
    end = started + 60 * options.minutes
    left = max(0.01, (end - time.monotonic()) / 60)
    command = [sys.executable, str(RECORD), STUDY, f"--minutes={left:.3f}", *rehearsal]
    command += [f"--jobs={options.jobs}", f"--runs={runs}", f"--checkpoints={checkpoints}"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # In a group of its own, so that all its processes can be stopped at once.
    process = subprocess.Popen(command, env=environment, process_group=0)
    try:
        while (wait := end + GRACE - time.monotonic()) > 0:
            try:
                process.wait(min(EVERY, wait))
                break
            except subprocess.TimeoutExpired:
                collect(out, *folders, options.files, options.mib)
                epochs = ", ".join(f"{path.parent.name} {n}" for path, n in unfinished(*folders))
                print(f"{time.monotonic() - started:.0f} s, at epoch: {epochs}", flush=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for path in collect(out, *folders, options.files, options.mib):
            print(f"left out of {out} because it is full: {path.relative_to(folders[1])}")
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())

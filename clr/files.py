"""Files: written whole or not at all, and read with a clear word on what is wrong with one."""

import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, and never half of it.

    Raises:
        OSError: It can't be written; what was there is intact.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            text = f"{error.strerror}: {path} could not be written; what was there is intact"
            raise OSError(error.errno, text) from error
        raise


def check_writable(folder: Path) -> None:
    """Makes a folder, if it is not there, and tries to write into it.

    Raises:
        ValueError: It can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"The output folder must be one that can be written to. Received: {folder} ({error})"
        ) from error


def json_text(form: str, values: dict[str, Any]) -> str:
    """Returns values as JSON, with the `"format"` that `read_json` asks for."""
    return json.dumps({"format": form, **values}, indent=1) + "\n"


def write_json(path: Path, form: str, values: dict[str, Any]) -> None:
    """Writes what `json_text` returns to a file, whole or not at all."""
    write_atomically(path, json_text(form, values).encode())


@contextmanager
def read_json(path: str | os.PathLike, form: str, what: str) -> Iterator[dict[str, Any]]:
    """Gives a JSON file's values to a block that makes an object of them.

    Args:
        path: The file.
        form: What its `"format"` must be; it is not among the values.
        what: What the file should hold, for the error.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It can't be read, is of another format, or the block can't use it.
    """
    content = Path(path).read_bytes()
    try:
        values = json.loads(content)
        if values.pop("format") != form:
            raise ValueError(f'"format" is not "{form}"')
        yield values
    except Exception as error:  # Damage shows as errors of many kinds.
        raise ValueError(
            f"{path} is not {what}, or it is damaged: {type(error).__name__}: {error}"
        ) from error


def write_arrays(path: Path, arrays: Iterable[Any], **named: Any) -> None:
    """Writes arrays to an .npz file, whole or not at all.

    Args:
        path: The file.
        arrays: Arrays that are told apart by their order.
        **named: Others, by name.
    """
    buffer = io.BytesIO()
    numbered = {f"{number:04}": array for number, array in enumerate(arrays)}
    np.savez(buffer, allow_pickle=False, **named, **numbered)
    write_atomically(path, buffer.getvalue())


def read_arrays(path: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Returns the arrays of an .npz file: those in order, and those by name. Unpickles nothing.

    Raises:
        Exception: The file is damaged, which shows as errors of zipfile, zlib, NumPy, ...
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        numbers = sorted((name for name in archive.files if name.isdigit()), key=int)
        named = {name: archive[name] for name in archive.files if not name.isdigit()}
        return [archive[number] for number in numbers], named

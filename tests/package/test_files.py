"""Files are written whole or not at all, and an output folder is one that can be written to."""

import re

import pytest

from clr.files import check_writable, write_atomically


def test_a_failing_write_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            write_atomically(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]  # And no half of a new one.


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("a much longer old content")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_output_folder_is_made_or_refused(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"output folder.*{re.escape(str(path))}"):
            check_writable(path)

"""A disk that cannot take a checkpoint is found before one is written."""

import errno
import shutil
from pathlib import Path

import pytest

from receptance.training.checkpoints.disk_space import check_space, check_writable


def test_room_enough_is_no_error(tmp_path):
    check_space(tmp_path, shutil.disk_usage(tmp_path).free // 2, "to begin")


def test_too_little_room_is_told_with_what_there_must_be(tmp_path):
    with pytest.raises(OSError, match=r"must have 1000000000.000 GB free to save, but") as caught:
        check_space(tmp_path, 10**18, "to save")
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    check_writable(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(OSError, match=r"^\[Errno \d+\] '/proc' cannot be written: "):
        check_writable(Path("/proc"))

import os
from pathlib import Path

import pytest

from receptance.data.files import find_files
from receptance.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.py", "a.txt", "sub/c.py", "sub/deep/d.md", "another/e.py"):
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "top"


def names(folder: Path, *globs: str, excluding: set[Path] | None = None) -> list[str]:
    found = find_files(folder, globs=globs, excluding=set() if excluding is None else excluding)
    return [path.relative_to(folder).as_posix() for path in found]


def test_a_folder_is_walked_in_sorted_order(folder: Path) -> None:
    assert names(folder) == ["a.txt", "b.py", "another/e.py", "sub/c.py", "sub/deep/d.md"]


def test_globs_choose_by_name_or_by_path(folder: Path) -> None:
    assert names(folder, "*.py") == ["b.py", "another/e.py", "sub/c.py"]
    assert names(folder, "sub/*.py") == ["sub/c.py"]
    assert names(folder, "*.md", "*.txt") == ["a.txt", "sub/deep/d.md"]


def test_globs_do_not_refuse_a_file_that_is_named(folder: Path) -> None:
    assert find_files(folder / "a.txt", globs=["*.py"], excluding=set()) == [folder / "a.txt"]


def test_a_file_is_found_once_however_it_is_named(folder: Path) -> None:
    seen: set[Path] = set()
    assert names(folder / "sub", excluding=seen) == ["c.py", "deep/d.md"]
    assert names(folder, excluding=seen) == ["a.txt", "b.py", "another/e.py"]
    assert find_files(folder / "sub" / ".." / "a.txt", globs=[], excluding=seen) == []


def test_an_excluded_folder_is_not_entered(folder: Path) -> None:
    assert names(folder, "*.py", excluding={(folder / "sub").resolve()}) == ["b.py", "another/e.py"]


def test_broken_links_and_links_to_folders_are_passed_over(folder: Path) -> None:
    (folder / "broken").symlink_to(folder / "absent")
    (folder / "sub" / "loop").symlink_to(folder)
    assert names(folder, "*.py", "broken") == ["b.py", "another/e.py", "sub/c.py"]


def test_a_missing_file_is_named_with_its_neighbours(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"no file or folder at '.*/a\.text'; '.*' holds \['a\.txt'"
    ):
        find_files(folder / "a.text", globs=[], excluding=set())
    with pytest.raises(DataError, match=r"the folder '.*/nowhere' does not exist"):
        find_files(folder / "nowhere" / "a.txt", globs=[], excluding=set())


def test_a_pipe_is_refused_because_it_cannot_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"'.*pipe' must be a regular file or a folder"):
        find_files(tmp_path / "pipe", globs=[], excluding=set())


def test_what_describes_a_saved_data_set_is_not_read(tmp_path: Path) -> None:
    """As `DatasetDict.save_to_disk` lays it out, beside a folder of somebody's own."""
    for name in (
        "dataset_dict.json", "train/data-00000-of-00001.arrow", "train/state.json",
        "train/dataset_info.json", "own/state.json", "own/dataset_info.json",
    ):  # fmt: skip
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert names(tmp_path / "top") == [
        "own/dataset_info.json", "own/state.json", "train/data-00000-of-00001.arrow"
    ]  # fmt: skip

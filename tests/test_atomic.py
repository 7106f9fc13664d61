"""Files and folders appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from receptance import atomic
from receptance.atomic import atomic_file, atomic_folder, put_folder, remove_staged, staging_name


class PowerCutError(Exception):
    """What stops a block half-way."""


def write_half_of(staged: Path, stop: type[BaseException]) -> None:
    """Do what a program does that is stopped on the way."""
    staged.write_text("half")
    raise stop


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_appears_with_its_content(tmp_path):
    with atomic_file(tmp_path / "a.txt") as staged:
        staged.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_staged_in_the_folder_of_its_destination(tmp_path):
    with atomic_file(tmp_path / "a.txt") as staged:
        staged.write_text("new")
        assert staged.parent == tmp_path
        assert staged.name != "a.txt"


def test_a_reader_sees_the_old_file_until_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as staged:
        staged.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("stop", [PowerCutError, KeyboardInterrupt, SystemExit])
def test_a_file_whose_block_fails_stays_as_it_was(tmp_path, stop):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(stop), atomic_file(path) as staged:
        write_half_of(staged, stop)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_new_file_whose_block_fails_does_not_exist(tmp_path):
    with pytest.raises(PowerCutError), atomic_file(tmp_path / "a.txt") as staged:
        write_half_of(staged, PowerCutError)
    assert names(tmp_path) == []


def test_a_file_in_a_folder_that_does_not_exist_is_an_os_error_that_names_it(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="absent"),
        atomic_file(tmp_path / "absent" / "a.txt") as staged,
    ):
        staged.write_text("new")
    assert names(tmp_path) == []


def test_an_error_of_writing_names_the_destination_and_not_the_staging_name(tmp_path):
    with (
        pytest.raises(OSError, match=r"/a/x+' cannot be written: File name too long$") as caught,
        atomic_folder(tmp_path / "a") as staged,
    ):
        (staged / ("x" * 300)).touch()
    assert caught.value.errno == errno.ENAMETOOLONG
    assert ".tmp-" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("make", [atomic_file, atomic_folder])
def test_an_error_of_another_file_stays_its_own(tmp_path, make):
    with pytest.raises(FileNotFoundError, match="elsewhere"), make(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_os_error_and_changes_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_file(path):
        pass
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"), atomic_file(tmp_path / "a") as staged:
        staged.write_text("new")
    assert (tmp_path / "a").is_dir()
    assert names(tmp_path) == ["a"]


def test_what_is_no_regular_file_is_left_alone_and_nothing_is_done(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    entered = False
    with (
        pytest.raises(FileExistsError, match=r"pipe' must be a regular file to be replaced by one"),
        atomic_file(tmp_path / "pipe"),
    ):
        entered = True
    assert not entered
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_a_cleanup_that_fails_does_not_hide_what_went_wrong(tmp_path, monkeypatch):
    def refuse(path: Path, **_: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PowerCutError), atomic_file(tmp_path / "a.txt") as staged:
        write_half_of(staged, PowerCutError)


def test_two_writers_of_one_file_do_not_share_a_staging_name(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_file(path) as first, atomic_file(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert names(tmp_path) == ["a.txt"]


def test_a_relative_path_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_file(Path("a.txt")) as staged:
        staged.write_text("new")
    with atomic_folder(Path("b")) as folder:
        (folder / "c").write_text("c")
    assert names(tmp_path) == ["a.txt", "b"]


def test_a_folder_appears_with_all_that_is_in_it(tmp_path):
    with atomic_folder(tmp_path / "a") as staged:
        assert names(staged) == []
        (staged / "b").mkdir()
        (staged / "b" / "c.txt").write_text("c")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "c"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_exists_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "a").mkdir()
    entered = False
    with (
        pytest.raises(FileExistsError, match=r"'.*a' must not exist yet, but it does"),
        atomic_folder(tmp_path / "a"),
    ):
        entered = True
    assert not entered
    assert names(tmp_path) == ["a"]


def test_a_folder_is_replaced_as_a_whole_where_that_is_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old.txt").write_text("old")
    with atomic_folder(tmp_path / "a", replace=True) as staged:
        (staged / "new.txt").write_text("new")
        assert names(tmp_path / "a") == ["old.txt"]
    assert names(tmp_path / "a") == ["new.txt"]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("stop", [PowerCutError, KeyboardInterrupt])
@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_whose_block_fails_stays_as_it_was(tmp_path, stop, replace):
    if replace:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "old.txt").write_text("old")
    with pytest.raises(stop), atomic_folder(tmp_path / "a", replace=replace) as staged:
        write_half_of(staged / "half.txt", stop)
    assert names(tmp_path) == (["a"] if replace else [])
    assert not replace or names(tmp_path / "a") == ["old.txt"]


def test_a_folder_whose_parent_does_not_exist_is_an_os_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"), atomic_folder(tmp_path / "absent" / "a"):
        pass
    assert names(tmp_path) == []


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(OSError, match="a"), atomic_folder(tmp_path / "a", replace=True) as staged:
        (staged / "b").write_text("b")
    assert (tmp_path / "a").read_text() == "a file"
    assert names(tmp_path) == ["a"]


def test_what_a_killed_process_staged_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".step-1.tmp-0123456789ab").mkdir()
    (tmp_path / ".step-1.tmp-0123456789ab" / "half").write_text("a")
    (tmp_path / ".config.toml.tmp-0123456789ab").write_text("a")
    (tmp_path / "step-1").mkdir()
    (tmp_path / ".hidden").write_text("a")
    remove_staged(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "step-1"]


def folders(place: Path) -> tuple[Path, Path]:
    """Return a folder `a` that is there, and one that is staged to replace it."""
    path = place / "a"
    staged = staging_name(path)
    for folder, text in ((path, "old"), (staged, "new")):
        folder.mkdir()
        (folder / "x").write_text(text)
    return staged, path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_put_in_the_place_of_another(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    staged, path = folders(tmp_path)

    put_folder(staged, path)

    assert (path / "x").read_text() == "new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_the_old_folder_stays_until_the_disk_has_the_new_name(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    staged, path = folders(tmp_path)

    def lost(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic, "fsync", lost)
    with pytest.raises(OSError, match="Input/output error"):
        put_folder(staged, path)

    texts = {(each / "x").read_text() for each in tmp_path.iterdir()}
    assert texts == {"old", "new"}


def test_names_are_exchanged_in_one_step_where_the_system_can(tmp_path):
    staged, path = folders(tmp_path)
    if not atomic._exchange(staged, path):
        pytest.skip("this system or file system cannot exchange names")

    assert (path / "x").read_text() == "new"
    assert (staged / "x").read_text() == "old"


def test_an_exchange_that_fails_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        atomic._exchange(tmp_path / "none", tmp_path / "nor this")


def test_a_folder_is_not_put_in_the_place_of_a_file(tmp_path):
    staged = tmp_path / "staged"
    staged.mkdir()
    (tmp_path / "a").write_text("a file")

    with pytest.raises(NotADirectoryError, match="a'"):
        put_folder(staged, tmp_path / "a")

    assert (tmp_path / "a").read_text() == "a file"


def test_what_cannot_be_removed_stays(tmp_path, monkeypatch):
    (tmp_path / ".a.tmp-0").touch()

    def refuse(path: Path, **_: bool) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    remove_staged(tmp_path)

    assert names(tmp_path) == [".a.tmp-0"]

"""A run goes on from its newest checkpoint that is whole, and never from one that is not."""

from pathlib import Path

import pytest

from receptance.errors import CheckpointError
from receptance.training.checkpoints.commit import commit
from receptance.training.checkpoints.history import (
    checkpoint_name,
    list_checkpoints,
    newest_good,
    record_latest,
    remove_old,
)
from receptance.training.checkpoints.manifest import Manifest
from receptance.training.checkpoints.retention import Retention
from receptance.training.processes import ALONE
from tests.training.checkpoints.resealed import reseal


def make(folder: Path, step: int, parent: int | None = None, bits: float | None = None) -> Path:
    """Write a checkpoint of one file, and let `latest` name it."""
    path = folder / checkpoint_name(step)
    manifest = Manifest(
        step=step, tokens=0, world_size=1, config_sha256="", code_version="1",
        parent="" if parent is None else checkpoint_name(parent),
        valid_bits_per_byte=bits, files={},
    )  # fmt: skip
    commit(path, manifest, lambda stage: stage.write("a", [b"content"]), ALONE)
    record_latest(folder, path)
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [make(tmp_path, step, parent) for step, parent in ((2, None), (4, 2), (6, 4))]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_checkpoints_are_listed_oldest_first_and_nothing_else_is(tmp_path):
    strange = [".step-00000011.tmp-0123456789ab", "step-00000012.corrupt", "step-", "step-1x"]
    for name in ("step-00000010", "step-00000009", "step-100000000", *strange):
        (tmp_path / name).mkdir()

    steps = [path.name for path in list_checkpoints(tmp_path)]

    assert steps == ["step-00000009", "step-00000010", "step-100000000"]
    assert list_checkpoints(tmp_path / "none") == []


def test_the_newest_is_taken(tmp_path, three):
    assert newest_good(tmp_path) == three[-1]
    assert newest_good(tmp_path / "none") is None


@pytest.mark.parametrize("content", [b"x", b"contenT", b"", None])
def test_a_damaged_one_is_set_aside_told_and_the_one_before_is_taken(
    tmp_path, three, caplog, content
):
    file = three[-1] / "a"
    file.unlink()
    if content is not None:
        file.write_bytes(content)

    assert newest_good(tmp_path) == three[1]

    assert f"{three[-1]} IS DAMAGED and is not used: " in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    aside = tmp_path / "step-00000006.corrupt"
    assert str(file) in (aside / "CORRUPT.txt").read_text()
    assert newest_good(tmp_path) == three[1]  # and no more is told
    assert len(caplog.records) == 1


def test_sizes_alone_do_not_tell_a_flipped_bit(tmp_path, three):
    (three[-1] / "a").write_bytes(b"contenT")

    assert newest_good(tmp_path, hashes=False) == three[-1]
    assert newest_good(tmp_path) == three[1]


def test_without_renaming_nothing_is_changed(tmp_path, three):
    (three[-1] / "a").unlink()
    before = sorted(tmp_path.rglob("*"))

    assert newest_good(tmp_path, rename=False) == three[1]
    assert sorted(tmp_path.rglob("*")) == before


def test_several_damaged_ones_of_one_step_have_names_of_their_own(tmp_path):
    for _ in range(3):
        make(tmp_path, 2)
        (make(tmp_path, 4, 2) / "a").unlink()
        newest_good(tmp_path)

    corrupt = [name for name in names(tmp_path) if name.endswith("corrupt")]
    assert corrupt == [f"step-00000004{n}.corrupt" for n in ("-2", "-3", "")]


def test_if_none_is_whole_it_is_an_error_now_and_later(tmp_path, three):
    for path in three:
        (path / "a").write_bytes(b"damaged")

    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            newest_good(tmp_path)
        assert f"no checkpoint in {str(tmp_path)!r} is whole: " in str(caught.value)
        assert str(tmp_path / "step-00000002.corrupt") in str(caught.value)
        assert "choose another `name` or remove the folder" in str(caught.value)


def test_one_of_another_version_is_an_error_and_is_left_alone(tmp_path, three):
    reseal(three[-1], format_version=99)

    with pytest.raises(CheckpointError, match="written by another version of receptance"):
        newest_good(tmp_path)

    assert three[-1].exists()


@pytest.mark.parametrize(
    "latest", [None, b"", b"step-00000099", b"step-00000006\n", b"\xff", b"../x"]
)
def test_a_latest_that_is_missing_or_names_nothing_changes_nothing(tmp_path, three, latest):
    (tmp_path / "latest").unlink()
    if latest is not None:
        (tmp_path / "latest").write_bytes(latest)

    assert newest_good(tmp_path) == three[-1]


def test_one_that_was_written_before_latest_could_name_it_is_the_newest(tmp_path, three):
    record_latest(tmp_path, three[1])
    assert newest_good(tmp_path) == three[-1]

    record_latest(tmp_path, three[0])
    assert newest_good(tmp_path) == three[-1]


def test_those_that_a_run_left_when_it_went_back_are_not_taken(tmp_path, three):
    back = make(tmp_path, 3, 2)

    assert newest_good(tmp_path) == back

    (back / "a").unlink()
    assert newest_good(tmp_path) == three[0]


def test_one_of_before_a_step_can_be_asked_for(tmp_path, three):
    assert newest_good(tmp_path, before_step=6) == three[1]
    assert newest_good(tmp_path, before_step=3) == three[0]
    assert newest_good(tmp_path, before_step=2) is None


def test_old_ones_are_removed_and_what_is_not_a_checkpoint_stays(tmp_path, three):
    (tmp_path / "notes").touch()
    (tmp_path / "step-00000001.corrupt").mkdir()

    remove_old(tmp_path, Retention(last=2), 6, lambda _: True)

    assert list_checkpoints(tmp_path) == three[1:]
    assert {"notes", "step-00000001.corrupt", "latest"} < set(names(tmp_path))
    assert not [name for name in names(tmp_path) if "tmp" in name]


def test_the_best_are_known_by_their_manifests(tmp_path):
    for step, bits in ((2, 1.5), (4, 1.25), (6, None), (8, 1.75), (10, None), (12, None)):
        make(tmp_path, step, bits=bits)

    remove_old(tmp_path, Retention(last=2, best=1), 12, lambda _: True)

    assert [int(path.name[-2:]) for path in list_checkpoints(tmp_path)] == [4, 10, 12]


def test_what_cannot_be_removed_is_told_and_the_others_go(tmp_path, three, caplog, monkeypatch):
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == three[0]:
            raise OSError(5, "Input/output error", str(path))
        return rename(path, target)

    make(tmp_path, 8, 6)
    monkeypatch.setattr(Path, "rename", refuse)
    remove_old(tmp_path, Retention(last=2), 8, lambda _: True)

    assert "step-00000002 need not stay, but it cannot be removed: " in caplog.text
    assert [int(path.name[-2:]) for path in list_checkpoints(tmp_path)] == [2, 6, 8]


def test_one_that_cannot_be_read_is_not_removed(tmp_path, three):
    (three[0] / "MANIFEST.json").write_bytes(b"x")

    remove_old(tmp_path, Retention(last=1), 6, lambda _: True)

    assert list_checkpoints(tmp_path) == three

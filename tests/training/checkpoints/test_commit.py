"""A checkpoint is committed by all ranks, or by none."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from receptance.errors import CheckpointError
from receptance.training.checkpoints.commit import StagedFolder, commit, together
from receptance.training.checkpoints.manifest import FileRecord, Manifest, verify
from receptance.training.processes import ALONE, Ranks
from tests.training.thread_ranks import on_ranks


def draft(step: int = 1) -> Manifest:
    return Manifest(
        step=step, tokens=0, world_size=1, config_sha256="", code_version="1", parent="",
        valid_bits_per_byte=None, files={},
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def record(content: bytes) -> FileRecord:
    return FileRecord(len(content), hashlib.sha256(content).hexdigest())


def test_a_file_is_hashed_as_it_is_written(tmp_path):
    stage = StagedFolder(tmp_path)
    big = os.urandom(3_000_000)

    stage.write("a", [b"", b"one", memoryview(b"two")])
    stage.write("deep/er/b", iter([big[:7], big[7:]]))
    stage.write("none", [])

    assert (tmp_path / "deep" / "er" / "b").read_bytes() == big
    assert stage.files == {
        "a": record(b"onetwo"), "deep/er/b": record(big), "none": record(b"")
    }  # fmt: skip


def test_a_file_that_other_code_wrote_is_taken_in(tmp_path):
    stage = StagedFolder(tmp_path)
    (tmp_path / "x").write_bytes(b"content")

    stage.adopt("x")

    assert stage.files == {"x": record(b"content")}


def test_what_is_committed_is_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "step-1"

    manifest = commit(path, draft(), lambda stage: stage.write("d/a", [b"a"]), ALONE)

    assert verify(path) == manifest
    assert manifest.files == {"d/a": record(b"a")}
    assert names(tmp_path) == ["step-1"]


def test_nothing_is_there_until_all_is(tmp_path):
    path = tmp_path / "step-1"

    def write(stage: StagedFolder) -> None:
        stage.write("a", [b"a"])
        assert not path.exists()

    commit(path, draft(), write, ALONE)
    assert path.exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError("x")])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "step-1"
    before = commit(path, draft(), lambda stage: stage.write("a", [b"a"]), ALONE)

    def write(stage: StagedFolder) -> None:
        stage.write("a", [b"other"])
        raise error

    with pytest.raises(type(error)):
        commit(path, draft(), write, ALONE)

    assert verify(path) == before
    assert names(tmp_path) == ["step-1"]


def test_an_error_names_the_checkpoint_and_not_its_staging_name(tmp_path):
    def write(_: StagedFolder) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"/step-1' cannot be written: No space left on") as caught:
        commit(tmp_path / "step-1", draft(), write, ALONE)
    assert caught.value.errno == errno.ENOSPC
    assert ".tmp-" not in str(caught.value)


def test_what_reads_back_otherwise_is_not_committed(tmp_path):
    def write(stage: StagedFolder) -> None:
        stage.write("a", [b"one"])
        (stage.path / "a").write_bytes(b"two")  # the disk lied

    with pytest.raises(OSError, match=r"reads back otherwise: .*/step-1/a' must have the sha256"):
        commit(tmp_path / "step-1", draft(), write, ALONE)

    assert names(tmp_path) == []


def test_the_files_of_all_ranks_are_in_the_manifest(tmp_path):
    path = tmp_path / "step-1"

    def save(ranks: Ranks) -> Manifest:
        name = f"rank-{ranks.rank}"
        return commit(path, draft(), lambda stage: stage.write(name, [name.encode()]), ranks)

    written = on_ranks(3, save)

    assert verify(path) == written[0] == written[1] == written[2]
    assert sorted(written[0].files) == ["rank-0", "rank-1", "rank-2"]
    assert names(tmp_path) == ["step-1"]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_if_one_rank_fails_all_do(tmp_path, failing):
    def save(ranks: Ranks) -> str:
        def write(stage: StagedFolder) -> None:
            stage.write(f"rank-{ranks.rank}", [b"x"])
            if ranks.rank == failing:
                raise OSError(errno.EIO, "Input/output error")

        with pytest.raises(OSError, match="Input/output error") as caught:
            commit(tmp_path / "step-1", draft(), write, ranks)
        return str(caught.value)

    messages = on_ranks(3, save)

    others = [text for rank, text in enumerate(messages) if rank != failing]
    assert others == [f"rank {failing} failed: Input/output error"] * 2
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_fails_on_all_ranks(tmp_path):
    def save(ranks: Ranks) -> None:
        with pytest.raises(OSError, match="No such file or directory"):
            commit(tmp_path / "absent" / "step-1", draft(), lambda _: None, ranks)

    on_ranks(2, save)


@pytest.mark.parametrize("kind", [OSError, CheckpointError])
def test_an_error_is_of_its_kind_on_all_ranks(kind):
    def act(ranks: Ranks) -> str:
        def fail() -> None:
            if ranks.rank == 1:
                raise kind("broken")

        with pytest.raises(kind) as caught:
            together(ranks, fail)
        return str(caught.value)

    assert on_ranks(2, act) == ["rank 1 failed: broken", "broken"]


def test_results_come_from_all_ranks():
    assert on_ranks(3, lambda ranks: together(ranks, lambda: ranks.rank)) == [[0, 1, 2]] * 3

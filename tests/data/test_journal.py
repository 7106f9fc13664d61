import json
from pathlib import Path

import numpy as np
import pytest

from receptance.data import journal
from receptance.data.journal import plan_sha256, resumable_folder, staged_paths
from receptance.data.writer import SplitWriter
from receptance.errors import DataError

OPTIONS = {"replace": False, "restart": False}


def interrupted(out: Path, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what Ctrl-C leaves after a note on one document, and half of another."""
    monkeypatch.setattr(journal, "NOTE_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        write_half(out, plan)


def write_half(out: Path, plan: str) -> None:
    with (
        resumable_folder(out, plan, **OPTIONS) as made,
        SplitWriter(made.folder, "train", "uint16", 0) as writer,
    ):
        writer.append(np.array([1, 2, 3]), 3)
        writer.end_document()
        made.note(1, {"train": writer})
        writer.append(np.array([4, 5]), 2)
        raise KeyboardInterrupt


def fail_in(out: Path) -> None:
    with resumable_folder(out, "plan", **OPTIONS) as made:
        (made.folder / "a").write_text("content")
        raise RuntimeError


def go_on(out: Path) -> None:
    with resumable_folder(out, "plan", **OPTIONS) as made:
        assert made.last is not None
        SplitWriter(made.folder, "train", "uint16", 0, made.last.splits["train"])


def test_the_folder_appears_with_all_that_was_put_in_it(tmp_path: Path) -> None:
    with resumable_folder(tmp_path / "out", "plan", **OPTIONS) as made:
        assert made.last is None
        (made.folder / "a").write_text("content")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "content"


def test_an_error_removes_what_was_staged(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_folder_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "out", "plan", monkeypatch)
    assert not (tmp_path / "out").exists()
    with resumable_folder(tmp_path / "out", "plan", **OPTIONS) as made:
        assert made.last is not None
        assert made.last.pieces == 1
        begun = made.last.splits["train"]
        assert (begun.n_tokens, begun.n_bytes, begun.n_documents) == (4, 3, 1)
        with SplitWriter(made.folder, "train", "uint16", 0, begun) as writer:
            writer.append(np.array([6]), 1)
            writer.end_document()
    assert np.fromfile(tmp_path / "out" / "train.bin", "<u2").tolist() == [1, 2, 3, 0, 6, 0]
    assert np.fromfile(tmp_path / "out" / "train.docs", "<u8").tolist() == [0, 3, 4, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", ["shorter", "changed"])
def test_what_was_changed_since_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    interrupted(tmp_path / "out", "plan", monkeypatch)
    file = staged_paths(tmp_path / "out")[0] / "train.bin"
    file.write_bytes(b"\1\0" if damage == "shorter" else b"\7" + file.read_bytes()[1:])
    with pytest.raises(DataError, match=r"'train' .* but they were changed; prepare it again"):
        go_on(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_plan_is_refused_and_leaves_all_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    interrupted(out, "plan", monkeypatch)
    with (
        pytest.raises(DataError, match=r"--restart\) to begin anew"),
        resumable_folder(out, "other", **OPTIONS),
    ):
        pass
    with resumable_folder(out, "plan", **OPTIONS) as made:
        assert made.last is not None
    interrupted(tmp_path / "two", "plan", monkeypatch)
    with resumable_folder(tmp_path / "two", "other", replace=False, restart=True) as made:
        assert made.last is None
        assert list(made.folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", json.dumps({"plan": "plan"}).encode()])
def test_a_journal_that_is_none_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    interrupted(tmp_path / "out", "plan", monkeypatch)
    staged_paths(tmp_path / "out")[1].write_bytes(content)
    with resumable_folder(tmp_path / "out", "plan", **OPTIONS) as made:
        assert made.last is None
        assert list(made.folder.iterdir()) == []


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with resumable_folder(tmp_path / "out", "plan", **OPTIONS) as made:
        (made.folder / "a").write_text("mine")
        with (
            pytest.raises(DataError, match="one process at a time, but another one is at it"),
            resumable_folder(tmp_path / "out", "plan", **OPTIONS),
        ):
            pass
    assert (tmp_path / "out" / "a").read_text() == "mine"


def test_a_destination_that_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="by now it does"), resumable_folder(out, "plan", **OPTIONS):
        out.mkdir()
    assert list(tmp_path.iterdir()) == [out]
    with resumable_folder(out, "plan", replace=True, restart=False) as made:
        (made.folder / "a").write_text("new")
    assert (out / "a").read_text() == "new"
    # The error of another one takes nothing away.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_plans_differ_where_their_parts_do() -> None:
    assert plan_sha256({"a": 1, "b": 2}) == plan_sha256({"b": 2, "a": 1})
    assert plan_sha256({"a": 1}) != plan_sha256({"a": 2})

"""States in files."""

import json
import os
import random
import stat
import time
from pathlib import Path

import pytest
import torch

from receptance.errors import ConfigError, RequestError
from receptance.inference import LanguageModel
from receptance.serving.settings import Settings
from receptance.serving.state_store import FolderShelf, Kept, Shelf, StateStore
from tests.random_models import random_rwkv4


def shelf_of(lm: LanguageModel, folder: Path, **more: object) -> FolderShelf:
    return FolderShelf(folder, like=lm.zero_state(), fingerprint=lm.fingerprint, **more)  # type: ignore[arg-type]


def kept_of(owner: str = "me", name: str = "../a/nåme\n") -> Kept:
    return Kept(owner=owner, name=name, tokens=4, n_bytes=640)


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


def test_a_state_outlives_the_server(lm: LanguageModel, tmp_path: Path):
    shelf, kept, state = shelf_of(lm, tmp_path / "new"), kept_of(), lm.prefill("four")
    assert isinstance(shelf, Shelf)
    shelf.put(kept, state)
    for each in (shelf, shelf_of(lm, tmp_path / "new")):
        assert each.of_owner("me") == [kept]
        assert each.find("me", kept.id) == kept
        assert (each.count("me"), each.count("you")) == (1, 0)
        assert each.find("you", kept.id) is None
        assert each.of_owner("you") == []
        found = each.read(kept)
        assert found is not None
        assert all(map(torch.equal, found.tensors.values(), state.tensors.values()))
        assert each.n_bytes == sum(
            file.stat().st_size for file in files(tmp_path) if file.suffix == ".safetensors"
        )


def test_nobody_else_may_read_the_files_and_no_name_is_a_path(lm: LanguageModel, tmp_path: Path):
    shelf_of(lm, tmp_path).put(kept_of(owner="../../me"), lm.prefill("four"))
    numbers, note = sorted(files(tmp_path), key=lambda each: each.suffix, reverse=True)
    assert stat.S_IMODE(numbers.stat().st_mode) == stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(numbers.parent.stat().st_mode) == 0o700
    assert len(numbers.relative_to(tmp_path).parts) == 3


def test_a_state_that_is_removed_is_gone_and_so_are_its_bytes(lm: LanguageModel, tmp_path: Path):
    shelf, kept = shelf_of(lm, tmp_path), kept_of()
    shelf.put(kept, lm.prefill("four"))
    assert shelf.n_bytes > 0
    assert shelf.remove(kept)
    assert not shelf.remove(kept)
    assert (shelf.read(kept), shelf.n_bytes, files(tmp_path)) == (None, 0, [])


def test_another_models_states_are_not_seen_and_left_alone(lm: LanguageModel, tmp_path: Path):
    other = LanguageModel(random_rwkv4(2, 16, 256, seed=7), lm.tokenizer)
    kept = kept_of()
    shelf_of(lm, tmp_path).put(kept, lm.prefill("four"))
    assert shelf_of(other, tmp_path).find("me", kept.id) is None
    assert shelf_of(other, tmp_path).n_bytes > 0
    assert shelf_of(lm, tmp_path).find("me", kept.id) == kept


def test_damaged_files_are_as_if_they_were_not_there(lm: LanguageModel, tmp_path: Path):
    shelf, chance = shelf_of(lm, tmp_path), random.Random(1)
    kept = kept_of()
    shelf.put(kept, lm.prefill("four"))
    note, numbers = files(tmp_path)
    whole = {file: file.read_bytes() for file in (note, numbers)}
    n_read = 0
    for i in range(200):
        file = (note, numbers)[i % 2]
        changed = bytearray(whole[file])
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        file.write_bytes(bytes(changed)[: len(changed) - chance.choice([0, 0, 1, 50])])
        found = shelf.find("me", kept.id)
        assert shelf.read(kept) is None or file == note
        n_read += found is not None and shelf.read(found) is not None
        assert len(shelf.of_owner("me")) == (found is not None)
        file.write_bytes(whole[file])
    assert n_read < 100  # a note may be changed in its name, and so be read
    assert shelf.read(kept) is not None


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", "[" * 5000, '{"format": 1, "kept": {"id": 3}}', "3"]
)
def test_a_note_that_is_none_is_no_state(lm: LanguageModel, tmp_path: Path, note: str):
    shelf, kept = shelf_of(lm, tmp_path), kept_of()
    shelf.put(kept, lm.prefill("four"))
    files(tmp_path)[0].write_text(note)
    assert shelf.find("me", kept.id) is None
    assert shelf.read(kept) is None


def test_a_state_cannot_be_handed_to_another_by_moving_its_files(lm: LanguageModel, tmp_path: Path):
    shelf, mine, yours = shelf_of(lm, tmp_path), kept_of("me"), kept_of("you")
    shelf.put(mine, lm.prefill("four"))
    folder = files(tmp_path)[0].parent
    shelf.put(yours, lm.prefill("five"))
    (other,) = {file.parent for file in files(tmp_path)} - {folder}
    for file in files(folder):
        file.rename(other / file.name)
    assert shelf.find("you", mine.id) is None


def test_what_a_killed_server_left_is_removed_when_nobody_can_be_writing_it(
    lm: LanguageModel, tmp_path: Path
):
    shelf, kept = shelf_of(lm, tmp_path), kept_of()
    shelf.put(kept, lm.prefill("four"))
    folder = files(tmp_path)[0].parent
    lonely = folder / f"state-{'0' * 32}.safetensors"
    staged = folder / ".state.json.tmp-0123"
    for each in (lonely, staged):
        each.write_bytes(b"half")
    shelf_of(lm, tmp_path)
    assert lonely.exists()
    for each in (*files(folder), lonely):
        os.utime(each, (1, 1))
    shelf_of(lm, tmp_path)
    assert not lonely.exists()
    assert not staged.exists()
    assert shelf.read(kept) is not None


def test_what_another_server_wrote_counts_within_a_minute(lm: LanguageModel, tmp_path: Path):
    clock = [time.time()]
    shelf = shelf_of(lm, tmp_path, now=lambda: clock[0])
    assert shelf.n_bytes == 0
    shelf_of(lm, tmp_path).put(kept_of(), lm.prefill("four"))
    assert shelf.n_bytes == 0
    clock[0] += 61
    assert shelf.n_bytes > 0


def test_a_folder_that_takes_nothing_is_refused_at_the_start(lm: LanguageModel, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="`state_folder` must be a folder to write in"):
        shelf_of(lm, tmp_path / "file")


def test_a_disk_that_is_full_leaves_nothing(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shelf = shelf_of(lm, tmp_path)
    store = StateStore(shelf, Settings(), like=lm.zero_state(), fingerprint=lm.fingerprint)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".json" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RequestError, match="cannot be written"):
        store.reserve("me").keep("", 1, lm.prefill("four"))
    assert files(tmp_path) == []
    assert store.of_owner("me") == []


def test_a_note_names_no_folder(lm: LanguageModel, tmp_path: Path):
    shelf_of(lm, tmp_path).put(kept_of(), lm.prefill("four"))
    note = json.loads(files(tmp_path)[0].read_text())
    assert str(tmp_path) not in json.dumps(note)
    assert note["kept"]["owner"] == "me"

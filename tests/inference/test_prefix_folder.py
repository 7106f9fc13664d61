"""What is remembered on the disk comes back as it was, or not at all."""

import os
import random
import stat
import threading
from hashlib import blake2b
from pathlib import Path

import pytest
import torch

from receptance.inference import PrefixCache, PrefixFolder, prefix_folder
from receptance.models import RWKV4State

SCOPE, OTHER = ("model", "a"), ("model", "b")


def state(number: float = 0.0) -> RWKV4State:
    return RWKV4State(*(torch.full((1, 1, 4), number) for _ in range(5)))


STATE_BYTES = 5 * 4 * 4


def folder_of(path: Path, max_bytes: int = 10**6) -> PrefixFolder:
    return PrefixFolder(path, max_bytes, like=state(), fingerprint="f")


def packed(*tokens: int) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in tokens)


def key_of(*tokens: int) -> bytes:
    return blake2b(packed(*tokens), digest_size=32).digest()


def put(folder: PrefixFolder, *tokens: int, number: float = 1.0) -> None:
    folder.put(key_of(*tokens), SCOPE, packed(*tokens), state(number))
    folder.wait()


def found(folder: PrefixFolder, *tokens: int, scope: tuple[str, ...] = SCOPE) -> float | None:
    state = folder.find(key_of(*tokens), scope, memoryview(packed(*tokens)))
    return None if state is None else float(state.tensors["num"][0, 0, 0])


def test_a_state_comes_back_also_to_the_next_process(tmp_path: Path):
    folder = folder_of(tmp_path / "new")
    put(folder, 1, 2, number=0.1)
    for each in (folder, folder_of(tmp_path / "new")):
        assert list(each.lengths(SCOPE)) == [2]
        assert list(each.lengths(OTHER)) == []
        assert found(each, 1, 2) == float(torch.tensor(0.1))
        assert found(each, 1, 3) is None
        (file,) = (tmp_path / "new").iterdir()
        assert each.n_bytes == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_cache_tells_what_its_folder_takes(tmp_path: Path):
    folder = folder_of(tmp_path)
    put(folder, 1, 2)
    assert PrefixCache(100, folder).folder_bytes == folder.n_bytes > 0
    assert PrefixCache(100).folder_bytes == 0


def test_neither_another_scope_nor_other_tokens_get_it_though_the_key_is_the_same(tmp_path: Path):
    folder = folder_of(tmp_path)
    for scope, tokens in ((OTHER, packed(1, 2)), (SCOPE, packed(1, 3)), (SCOPE, packed(1))):
        put(folder, 1, 2)
        assert folder.find(key_of(1, 2), scope, memoryview(tokens)) is None
    put(folder, 1, 2)
    assert found(folder, 1, 2) == 1.0


def test_damaged_files_are_forgotten(tmp_path: Path):
    folder, chance = folder_of(tmp_path), random.Random(1)
    for _ in range(200):
        put(folder, 1, 2)
        (file,) = tmp_path.iterdir()
        content = bytearray(file.read_bytes())
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        assert found(folder, 1, 2) is None
        assert (len(folder), folder.n_bytes, list(tmp_path.iterdir())) == (0, 0, [])


def test_a_file_that_somebody_removed_is_forgotten(tmp_path: Path):
    folder = folder_of(tmp_path)
    put(folder, 1, 2)
    for each in tmp_path.iterdir():
        each.unlink()
    assert found(folder, 1, 2) is None
    assert len(folder) == 0


def test_the_bytes_are_bounded_and_what_was_used_lately_stays(tmp_path: Path):
    folder = folder_of(tmp_path / "one")
    put(folder, 1)
    size = folder.n_bytes
    folder = folder_of(tmp_path / "two", 2 * size)
    put(folder, 1)
    put(folder, 2)
    assert found(folder, 1) is not None
    put(folder, 3)
    assert [found(folder, n) is not None for n in (1, 2, 3)] == [True, False, True]
    assert folder.n_bytes == 2 * size == sum(f.stat().st_size for f in (tmp_path / "two").iterdir())
    for i, each in enumerate(sorted((tmp_path / "two").iterdir())):
        os.utime(each, (i, i))
    assert len(folder_of(tmp_path / "two", size)) == 1
    put(folder_of(tmp_path / "three", size - 1), 1)
    assert list((tmp_path / "three").iterdir()) == []


def test_foreign_and_half_written_files_are_passed_over(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f".{'0' * 32}.prefix.tmp-0123").write_text("half")
    folder = folder_of(tmp_path)
    assert len(folder) == 0
    put(folder, 1)
    folder.clear()
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_full_disk_costs_a_memory_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    folder = folder_of(tmp_path)

    def full(_: Path, __: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        put(folder, 1)
    assert (found(folder, 1), list(tmp_path.iterdir())) == (None, [])
    assert "No space left" in caplog.text
    put(folder, 1)
    assert found(folder, 1) is not None


def test_what_waits_for_a_slow_disk_is_written_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, is_free, n_written = folder_of(tmp_path), threading.Event(), 0
    write = Path.write_bytes

    def slow(path: Path, content: bytes) -> int:
        nonlocal n_written
        n_written += 1
        assert is_free.wait(10)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", slow)
    for _ in range(3):
        folder.put(key_of(1), SCOPE, packed(1), state())
    is_free.set()
    folder.wait()
    (file,) = tmp_path.iterdir()
    assert (n_written, folder.n_bytes) == (1, file.stat().st_size)
    folder.clear()
    assert (len(folder), folder.n_bytes, list(folder.lengths(SCOPE))) == (0, 0, [])


def test_a_file_that_is_there_twice_is_counted_once(tmp_path: Path):
    folder = folder_of(tmp_path)
    put(folder, 1)
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / file.name.replace("-1-", "-2-"))
    size = folder.n_bytes
    put(folder_of(tmp_path / "other"), 1)
    (other,) = (tmp_path / "other").iterdir()
    other.rename(file)
    (tmp_path / "other").rmdir()
    assert (folder_of(tmp_path).n_bytes, len(list(tmp_path.iterdir()))) == (size, 1)


def test_a_write_that_fails_in_any_way_is_told_in_the_log_and_fails_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    folder = folder_of(tmp_path)

    def broken(_: RWKV4State, __: str) -> bytes:
        raise RuntimeError("the device is gone")

    with monkeypatch.context() as patched:
        patched.setattr(RWKV4State, "to_bytes", broken)
        folder.put(key_of(1), SCOPE, packed(1), state())
        folder.clear()
    assert "RuntimeError" in caplog.text
    put(folder, 1)
    assert found(folder, 1) == 1.0


def test_a_folder_that_is_none_is_an_error_at_the_start(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        folder_of(tmp_path / "file")


def test_what_memory_has_no_place_for_goes_to_the_folder_and_comes_back(tmp_path: Path):
    folder = folder_of(tmp_path)
    cache = PrefixCache(2 * (STATE_BYTES + 8), folder)
    for n in range(5):
        cache.put(SCOPE, [n, n], state(float(n)))
        folder.wait()
    assert len(cache) == 2
    assert len(folder) == 3
    for n in range(5):
        remembered = cache.find(SCOPE, [n, n, 9])
        assert remembered is not None
        assert remembered.n_tokens == 2
        assert float(remembered.state.tensors["num"][0, 0, 0]) == float(n)
        assert cache.find(OTHER, [n, n, 9]) is None
        folder.wait()
    assert cache.n_bytes <= cache.max_bytes
    cache.clear()
    assert (len(cache), len(folder), list(tmp_path.iterdir())) == (0, 0, [])


def test_what_is_in_memory_at_the_end_is_there_for_the_next_process(tmp_path: Path):
    cache = PrefixCache(10_000, folder_of(tmp_path))
    for n in range(20):
        cache.put(SCOPE, [n, n], state(float(n)))
    cache.close()
    again = PrefixCache(10_000, folder_of(tmp_path))
    assert all(again.find(SCOPE, [n, n, 9]) is not None for n in range(20))


def test_what_was_used_last_goes_first_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = PrefixCache(10_000, folder_of(tmp_path))
    for n in range(20):
        cache.put(SCOPE, [n, n], state(float(n)))
    now, write = 0.0, Path.write_bytes

    def slow(path: Path, content: bytes) -> int:
        nonlocal now
        now += 1.0
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", slow)
    monkeypatch.setattr(prefix_folder.time, "monotonic", lambda: now)
    cache.close(3.0)
    again = PrefixCache(10_000, folder_of(tmp_path))
    there = [n for n in range(20) if again.find(SCOPE, [n, n, 9]) is not None]
    assert there == [17, 18, 19]


def test_at_the_end_what_was_used_last_has_the_place_that_there_is(tmp_path: Path):
    put(folder := folder_of(tmp_path / "one"), *range(7))
    size = folder.n_bytes
    cache = PrefixCache(100_000, folder := folder_of(tmp_path / "two", 3 * size))
    put(folder, *range(7))
    for n in (1, 2, 900, 3, 4, 5, 6):
        cache.put(SCOPE, range(n), state())
    for n in (900, 2):
        cache.find(SCOPE, range(n + 1))
    cache.put(SCOPE, range(6), state())
    cache.close()
    for place, expected in ((3, [2, 5, 6]), (2, [2, 6]), (1, [6])):
        again = folder_of(tmp_path / "two", place * size)
        assert sorted(again.lengths(SCOPE)) == expected


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    is_free, write = threading.Event(), Path.write_bytes

    def hung(path: Path, content: bytes) -> int:
        assert is_free.wait(10)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", hung)
    cache = PrefixCache(10_000, folder := folder_of(tmp_path))
    for n in range(3):
        cache.put(SCOPE, [n, n], state())
    cache.close(0.01)
    assert not folder.wait(0.0)
    is_free.set()
    assert folder.wait(10.0)
    assert len(folder) == 1

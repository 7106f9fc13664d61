import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from receptance.data import binidx
from receptance.data.binidx import index_of, open_binidx
from receptance.errors import DataError
from tests.data.binidx_files import CODES, write_binidx

HEADER = 9 + 8 + 1 + 8 + 8


def documents_of(index: Path, vocab_size: int = 1000) -> list[list[int]]:
    """Return all documents, joined from their pieces."""
    found: list[list[int]] = []
    open_ = False
    for piece in open_binidx(index).pieces(vocab_size=vocab_size, end_of_text=0):
        assert piece.begins is not open_
        if piece.begins:
            found.append([])
        found[-1] += piece.tokens.tolist()
        open_ = not piece.ends
    assert not open_
    return found


@pytest.mark.parametrize("dtype", list(CODES))
def test_documents_are_read_whatever_the_dtype(tmp_path: Path, dtype: str) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 2, 0], [3, 0], [4, 127, 0]], dtype=dtype)
    assert documents_of(index) == [[1, 2], [3], [4, 127]]


def test_a_document_may_have_several_sequences_and_none(tmp_path: Path) -> None:
    sequences = [[1], [], [2, 3], [4]]
    index = write_binidx(tmp_path / "x.idx", sequences, documents=[0, 0, 3, 4, 4])
    assert documents_of(index) == [[], [1, 2, 3], [4], []]


def test_documents_end_at_end_of_text_and_without_one(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[0, 1, 2, 0, 0, 3], [4], [5, 0]])
    assert documents_of(index) == [[], [1, 2], [], [3], [4], [5]]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_pieces_join_to_the_same_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    sequences = [[1, 2, 3, 0, 4, 5, 0], [], [6, 0], [7, 8, 9, 10], [0]]
    index = write_binidx(tmp_path / "x.idx", sequences)
    whole = documents_of(index)
    monkeypatch.setattr(binidx, "CHUNK", chunk)
    assert documents_of(index) == whole == [[1, 2, 3], [4, 5], [], [6], [7, 8, 9, 10], []]


def test_either_file_names_the_pair_and_a_bin_alone_is_something_else(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1]])
    assert index_of(index) == index_of(tmp_path / "x.bin") == index
    assert index_of(tmp_path / "x.txt") is None
    (tmp_path / "y.bin").write_bytes(b"text")
    assert index_of(tmp_path / "y.bin") is None


@pytest.mark.parametrize(("token", "vocab_size"), [(1000, 1000), (65535, 1000), (-1, 1000)])
def test_tokens_of_no_vocabulary_are_named(tmp_path: Path, token: int, vocab_size: int) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 2, 0], [3, token]], dtype="int32")
    with pytest.raises(DataError, match=rf"0 … 999, .* but token 4 is {token}; name the tokenizer"):
        documents_of(index, vocab_size)


def patched(place: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:place] + data + content[place + len(data) :]


N = 3  # sequences of the file that is damaged
SIZES, PLACES, EDGES = HEADER, HEADER + 4 * N, HEADER + 12 * N
HUGE = struct.pack("<Q", 2**63 + 5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "must begin with"),
        (lambda content: content[:20], "must have .* bytes for the"),
        (patched(0, b"TNTIDX\0\0\0"), "must begin with .*MMIDIDX.* but begins with b'TNTIDX"),
        (patched(9, b"\x02"), "must be of version 1, but is of 2"),
        (patched(17, b"\x06"), r"codes \[1, 2, 3, 4, 5, 8\], but has code 6"),
        (patched(17, b"\x63"), "but has code 99"),
        (patched(18, HUGE), "must have .* bytes for the 9223372036854775813 sequences"),
        (patched(26, HUGE), "9223372036854775813 document entries"),
        (lambda content: content[:-1], "must have 102 bytes for .*, but has 101"),
        (lambda content: content + b"\0", "must have 102 bytes for .*, but has 103"),
        (
            patched(SIZES + 4, struct.pack("<i", -(2**31))),
            r"sequence 1 is -2147483648: one of 2\^31",
        ),
        (
            patched(SIZES + 8, struct.pack("<i", 7)),
            "must have the 24 bytes .* at least, but has 14",
        ),
        (patched(SIZES + 8, struct.pack("<i", 1)), "must have the 12 bytes .* counts, but has 14"),
        (
            patched(PLACES + 16, struct.pack("<q", -(2**31))),
            "sequence 2 is at byte -2147483648 instead of 10: the places overflow",
        ),
        (patched(PLACES, struct.pack("<q", 2)), "sequence 0 is at byte 2 instead of 0"),
        (patched(EDGES, struct.pack("<q", 1)), "from 0 to 3 in order, but its entries go from 1"),
        (patched(EDGES + 24, struct.pack("<q", 2)), "but its entries go from 0 to 2"),
        (patched(EDGES + 8, struct.pack("<q", 9)), "from 0 to 3, not in order"),
        (patched(EDGES + 8, struct.pack("<q", -9)), "from 0 to 3, not in order"),
    ],
)
def test_a_damaged_or_hostile_index_ends_in_one_error(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 2], [3, 4, 0], [5, 0]])
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_binidx(index)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold tokens, but it is empty"),
        (b"\1\0\2", "tokens of 2 bytes, as its index says, but has 3 bytes"),
        (b"\1\0" * 9, "must have the 4 bytes that its index counts, but has 18"),
        (b"\1\0", "must have the 4 bytes that its index counts at least, but has 2"),
    ],
)
def test_a_bin_file_of_another_length_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1], [2]])
    index.with_suffix(".bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_binidx(index)


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_half_a_pair_is_refused(tmp_path: Path, suffix: str) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1]])
    index.with_suffix(suffix).unlink()
    with pytest.raises(DataError, match=rf"x\{suffix}' is missing"):
        open_binidx(index)


def test_the_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    """A gigabyte of tokens that are no more than a hole in a file is opened at once."""
    index = write_binidx(tmp_path / "x.idx", [[1]])
    content = bytearray(index.read_bytes())
    content[SIZES : SIZES + 4] = struct.pack("<i", 2**29)
    index.write_bytes(content)
    with index.with_suffix(".bin").open("r+b") as file:
        file.truncate(2**30)
    opened = open_binidx(index)
    assert isinstance(opened.tokens, np.memmap)
    assert len(opened.tokens) == 2**29


def test_every_cut_and_every_changed_byte_is_an_error_or_other_tokens(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 2], [3, 4, 0], [5, 0]])
    content = index.read_bytes()
    n_errors = 0
    cases = [content[:n] for n in range(len(content))]
    cases += [patched(n, bytes([content[n] ^ 0x81]))(content) for n in range(len(content))]
    for case in cases:
        index.write_bytes(case)
        try:
            documents_of(index)
        except DataError:
            n_errors += 1
    assert n_errors == len(cases)

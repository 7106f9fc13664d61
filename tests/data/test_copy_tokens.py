from pathlib import Path
from typing import Any

import pytest

from receptance.data import TokenStore, binidx, prepare
from receptance.data.copy_tokens import token_files
from receptance.errors import DataError
from receptance.tokenizer import BytesTokenizer, Tokenizer, train_bpe
from tests.data.binidx_files import write_binidx

TEXTS = [f"document {index} says 漢字 and {index * 7919} more\n" for index in range(40)]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe(TEXTS, 300)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64"])
@pytest.mark.parametrize("has_end_of_text", [True, False])
def test_the_store_is_the_one_that_the_texts_give(
    tmp_path: Path, bpe: Tokenizer, dtype: str, has_end_of_text: bool
) -> None:
    end = [0] if has_end_of_text else []
    index = write_binidx(tmp_path / "x.idx", [bpe.encode(t) + end for t in TEXTS], dtype=dtype)
    (tmp_path / "all.txt").write_text("\x1e".join(TEXTS))
    prepare([tmp_path / "all.txt"], bpe, tmp_path / "text", separator="\x1e", valid_fraction=0.0)
    copied = prepare([index], bpe, tmp_path / "copied", valid_fraction=0.0)
    for name in ("train.bin", "train.docs", "valid.bin", "valid.docs", "tokenizer.json"):
        assert (tmp_path / "text" / name).read_bytes() == (tmp_path / "copied" / name).read_bytes()
    assert copied.sha256 == TokenStore.open(tmp_path / "text").sha256
    assert copied.train.n_bytes == sum(len(text.encode()) for text in TEXTS)
    copied.verify()


def test_the_stream_of_the_authors_is_the_stream_of_the_store(tmp_path: Path) -> None:
    """What `data.order = "authors"` cuts is then what RWKV-LM cuts."""
    sequences = [[1, 2, 3, 0], [4, 0], [5, 6, 0]]
    index = write_binidx(tmp_path / "x.idx", sequences, dtype="int32")
    store = prepare([index], "bytes", tmp_path / "store", valid_fraction=0.0)
    assert store.train.tokens.tolist() == [token for each in sequences for token in each]


def test_held_out_files_and_documents_leave_the_training(tmp_path: Path) -> None:
    train = write_binidx(tmp_path / "train.idx", [[1, 2, 0], [3, 0]])
    valid = write_binidx(tmp_path / "valid.idx", [[7, 8, 0]])
    store = prepare([tmp_path / "train.bin", valid], "bytes", tmp_path / "one", valid=[valid])
    assert store.train.tokens.tolist() == [1, 2, 0, 3, 0]
    assert store.valid.tokens.tolist() == [7, 8, 0]
    assert [(each.held_out, each.documents) for each in store.sources] == [(False, 2), (True, 1)]

    many = write_binidx(tmp_path / "many.idx", [[1 + n, 1, 0] for n in range(100)])
    store = prepare([many], "bytes", tmp_path / "two", valid_fraction=0.3, seed=1)
    sides = [set(split.tokens[::3].tolist()) for split in (store.train, store.valid)]
    assert sides[0] | sides[1] == set(range(1, 101))
    assert not sides[0] & sides[1]
    assert 15 < len(sides[1]) < 45
    assert train.exists()


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
def test_of_a_single_document_the_end_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    index = write_binidx(tmp_path / "x.idx", [[*range(1, 21), 0]])
    monkeypatch.setattr(binidx, "CHUNK", chunk)
    store = prepare([index], "bytes", tmp_path / "store", valid_fraction=0.25)
    assert store.train.tokens.tolist() == [*range(1, 16), 0]
    assert store.valid.tokens.tolist() == [*range(16, 21), 0]
    assert (store.train.n_documents, store.valid.n_documents) == (1, 1)


def test_blank_documents_are_counted_and_left_out(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[0], [], [1, 0, 0, 2]])
    store = prepare([index], "bytes", tmp_path / "store", valid_fraction=0.0)
    assert store.train.tokens.tolist() == [1, 0, 2, 0]
    assert store.sources[0].blank_documents == 3


@pytest.mark.parametrize("dtype", ["int32", "uint16"])
def test_a_vocabulary_of_65536_is_kept_in_two_bytes_whatever_the_file_took(
    tmp_path: Path, dtype: str
) -> None:
    """Abel2076/json2binidx_tool#5: int32 for the vocabulary of World, which others do not read."""

    class Wide(BytesTokenizer):
        vocab_size = 65536

        def decode_bytes(self, tokens: object) -> bytes:
            del tokens
            return b""

        def save(self, folder: Path) -> None:
            del folder

    from receptance.data.copy_tokens import copy_tokens
    from receptance.data.manifest import read_manifest

    index = write_binidx(tmp_path / "x.idx", [[65535, 1, 0]], dtype=dtype)
    (tmp_path / "store").mkdir()
    copy_tokens([index], [], Wide(), tmp_path / "store", valid_fraction=0.0, seed=0, progress=None)
    assert read_manifest(tmp_path / "store").dtype == "uint16"
    assert (tmp_path / "store" / "train.bin").read_bytes() == b"\xff\xff\1\0\0\0"


def test_nothing_is_left_where_a_file_is_damaged(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 0], [300, 0]])
    with pytest.raises(DataError, match="but token 2 is 300; name the tokenizer"):
        prepare([index], "bytes", tmp_path / "store", valid_fraction=0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin", "x.idx"]


def test_files_without_tokens_are_refused(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[0], [0]])
    with pytest.raises(DataError, match=r"must hold some tokens, but \['.*x.idx'\] hold none"):
        prepare([index], "bytes", tmp_path / "store")
    single = write_binidx(tmp_path / "y.idx", [[1]])
    with pytest.raises(DataError, match="has 1 token, too few to hold out its end"):
        prepare([single], "bytes", tmp_path / "store")


def test_text_beside_tokens_and_options_of_text_are_refused(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 0]])
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"all text or all \.bin and \.idx"):
        prepare([index, tmp_path / "a.txt"], "bytes", tmp_path / "store")
    refused: list[dict[str, Any]] = [
        {"separator": "x"}, {"globs": ["*"]}, {"skip_undecodable": True},
    ]  # fmt: skip
    for options in refused:
        with pytest.raises(ValueError, match="must not be given"):
            prepare([index], "bytes", tmp_path / "store", **options)
    with pytest.raises(ValueError, match="must be the one that made them"):
        prepare([index], "train:300", tmp_path / "store")
    assert token_files([tmp_path / "a.txt"]) == []


def test_progress_ends_with_all_bytes(tmp_path: Path) -> None:
    index = write_binidx(tmp_path / "x.idx", [[1, 2, 0], [3, 0]])
    valid = write_binidx(tmp_path / "v.idx", [[7, 8, 0]])
    told: list[tuple[int, int]] = []
    prepare(
        [index], "bytes", tmp_path / "store", valid=[valid],
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[-1] == (5, 5)


def test_a_held_out_file_is_held_out_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = write_binidx(tmp_path / "one.idx", [[1, 2, 0]])
    other = write_binidx(tmp_path / "other.idx", [[7, 8, 0]])

    files = [one, other, Path("one.idx")]
    store = prepare(files, "bytes", tmp_path / "store", valid=[Path("other.idx")])

    assert store.train.tokens.tolist() == [1, 2, 0]
    assert store.valid.tokens.tolist() == [7, 8, 0]

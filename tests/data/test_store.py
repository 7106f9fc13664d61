import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from receptance.data import TokenStore, prepare
from receptance.data.manifest import Manifest, Splits, write_manifest
from receptance.data.writer import BLOCK_BYTES, SplitWriter
from receptance.errors import DataError, TokenizerError
from receptance.tokenizer import BytesTokenizer, train_bpe

TEXTS = ["first document\n", "second: é\n", "third 🎉"]


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    (tmp_path / "text.txt").write_text("|".join(TEXTS), "utf-8")
    (tmp_path / "held_out.txt").write_text("held out", "utf-8")
    return prepare(
        [tmp_path / "text.txt"],
        "bytes",
        tmp_path / "store",
        valid=[tmp_path / "held_out.txt"],
        separator="|",
    )


def flip_byte(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def test_a_document_is_its_tokens_alone(store: TokenStore) -> None:
    decoded = [
        store.tokenizer.decode(store.train.document(index).tolist())
        for index in range(store.train.n_documents)
    ]
    assert decoded == TEXTS
    assert store.tokenizer.decode(store.valid.document(0).tolist()) == "held out"


def test_every_document_is_followed_by_end_of_text(store: TokenStore) -> None:
    expected: list[int] = []
    for text in TEXTS:
        expected += [*store.tokenizer.encode(text), store.end_of_text]
    assert store.train.tokens.tolist() == expected


def test_counts_are_those_of_the_texts(store: TokenStore) -> None:
    sizes = [len(text.encode()) for text in TEXTS]
    assert store.train.n_bytes == sum(sizes)
    assert store.train.documents[:, 1].tolist() == sizes
    assert store.train.n_tokens == sum(sizes) + 3
    assert store.vocab_size == store.tokenizer.vocab_size


@pytest.mark.parametrize("index", [-1, 3])
def test_a_document_that_is_not_there_is_refused(store: TokenStore, index: int) -> None:
    with pytest.raises(IndexError, match=rf"`index` must lie in 0 … 2, .*, got {index}"):
        store.train.document(index)


def test_tokens_cannot_be_changed(store: TokenStore) -> None:
    with pytest.raises(ValueError, match="read-only"):
        store.train.tokens[0] = 1


def test_an_empty_split_opens_empty(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    store = prepare([tmp_path / "text.txt"], "bytes", tmp_path / "store", valid_fraction=0.0)
    assert store.valid.n_tokens == store.valid.n_documents == store.valid.n_bytes == 0
    store.verify()


@pytest.mark.parametrize("name", ["train.bin", "train.docs", "valid.bin", "valid.docs"])
def test_a_file_of_another_size_is_named(store: TokenStore, name: str) -> None:
    path = store.path / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(
        DataError, match=rf"{name}' must have {size} bytes for the (tokens|documents)"
    ):
        TokenStore.open(store.path)
    path.unlink()
    with pytest.raises(DataError, match=rf"'.*{name}' is missing; restore it, or prepare"):
        TokenStore.open(store.path)


@pytest.mark.parametrize(("row", "value", "seen"), [(0, 1, "1 to"), (2, 10**6, "0 to 1000000")])
def test_a_document_table_that_points_elsewhere_is_named(
    store: TokenStore, row: int, value: int, seen: str
) -> None:
    documents = np.array(store.train.documents)
    documents[row, 0] = value
    documents.tofile(store.path / "train.docs")
    with pytest.raises(DataError, match=rf"train\.docs' must point into the .* goes from {seen}"):
        TokenStore.open(store.path)


def test_verifying_a_whole_store_reads_all_of_it(store: TokenStore) -> None:
    calls: list[tuple[int, int]] = []
    store.verify(lambda done, total: calls.append((done, total)))
    names = ("train.bin", "train.docs", "valid.bin", "valid.docs")
    total = sum((store.path / name).stat().st_size for name in names)
    assert calls[-1] == (total, total)


@pytest.mark.parametrize("name", ["train.bin", "train.docs", "valid.bin", "valid.docs"])
def test_a_flipped_bit_is_found_in_every_file(store: TokenStore, name: str) -> None:
    flip_byte(store.path / name, 9)
    with pytest.raises(
        DataError, match=rf"'.*{name}' is damaged in block 0 of 1 \(block 0 is bytes"
    ):
        TokenStore.open(store.path).verify()


def test_the_damaged_blocks_of_a_large_file_are_named(tmp_path: Path) -> None:
    tokenizer = BytesTokenizer()
    with SplitWriter(tmp_path, "train", "uint16", tokenizer.end_of_text) as train:
        train.append(np.ones(BLOCK_BYTES + 1000, np.uint16), n_bytes=BLOCK_BYTES + 1000)
        train.end_document()
    with SplitWriter(tmp_path, "valid", "uint16", tokenizer.end_of_text) as valid:
        pass
    write_manifest(
        Manifest(
            dtype="uint16",
            vocab_size=tokenizer.vocab_size,
            tokenizer=tokenizer.name,
            tokenizer_sha256=tokenizer.sha256,
            end_of_text=tokenizer.end_of_text,
            splits=Splits(train=train.manifest(), valid=valid.manifest()),
            sources=[],
        ),
        tmp_path,
    )
    store = TokenStore.open(tmp_path)
    store.verify()
    flip_byte(tmp_path / "train.bin", BLOCK_BYTES)
    with pytest.raises(
        DataError,
        match=r"damaged in block 1 of 3 \(block 1 is bytes 67108864 to 134217727\): its sha",
    ):
        store.verify()
    flip_byte(tmp_path / "train.bin", 2 * BLOCK_BYTES + 1)
    with pytest.raises(DataError, match=r"damaged in block 1, 2 of 3"):
        store.verify()


def test_too_few_hashes_are_noticed(store: TokenStore) -> None:
    path = store.path / "store.json"
    content = json.loads(path.read_text())
    content["splits"]["train"]["sha256"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"has 1 blocks of 64 MiB, but store\.json has 0 hashes"):
        TokenStore.open(store.path).verify()


def test_another_tokenizer_is_refused_with_both_names(store: TokenStore) -> None:
    store.require_tokenizer(BytesTokenizer())
    other = train_bpe(TEXTS * 50, 280)
    names = (
        rf"'bytes' \(sha256 {BytesTokenizer().sha256[:16]}….*, "
        rf"not of 'bpe' \(sha256 {other.sha256[:16]}….*use the tokenizer of the store, or prepare"
    )
    with pytest.raises(DataError, match=names):
        store.require_tokenizer(other)


def test_a_store_whose_tokenizer_was_exchanged_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(TEXTS), "utf-8")
    store = prepare([tmp_path / "text.txt"], train_bpe(TEXTS * 9, 270), tmp_path / "store")
    train_bpe(TEXTS * 9, 271).save(store.path)
    message = rf"the tokens of {re.escape(repr(str(store.path)))} are of the tokenizer 'bpe'"
    with pytest.raises(DataError, match=message):
        TokenStore.open(store.path)


def test_a_store_whose_tokenizer_is_missing_is_not_taken_for_one_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(TEXTS), "utf-8")
    store = prepare([tmp_path / "text.txt"], train_bpe(TEXTS * 9, 270), tmp_path / "store")
    (store.path / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"must hold 'tokenizer.json' or .* holds neither"):
        TokenStore.open(store.path)


def test_a_store_without_masks_has_the_hash_that_it_always_had(store: TokenStore) -> None:
    """Runs that go on look for it."""
    content = json.loads((store.path / "store.json").read_text())
    del content["sources"]
    assert "mask" not in content["splits"]["train"]
    assert store.sha256 == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_a_mask_is_checked_as_the_tokens_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "2+2=", "answer": "4"}\n')
    prepare([tmp_path / "a.jsonl"], "bytes", tmp_path / "store", valid_fraction=0.0)
    path = tmp_path / "store" / "train.mask"
    flip_byte(path, 1)
    store = TokenStore.open(tmp_path / "store")
    with pytest.raises(DataError, match=r"train\.mask' is damaged in block 0 of 1"):
        store.verify()
    path.write_bytes(b"\1")
    with pytest.raises(DataError, match=r"train\.mask' must have 6 bytes for the tokens .* has 1"):
        TokenStore.open(tmp_path / "store")
    path.unlink()
    with pytest.raises(DataError, match=r"train\.mask' is missing"):
        TokenStore.open(tmp_path / "store")

"""A text is scored whole, or cut where as many tokens are read as were asked for."""

import gzip
import hashlib
import json

import numpy as np
import pytest

from receptance.data import NotTextError, prepare
from receptance.data.documents import parse_boundaries
from receptance.errors import DataError
from receptance.evaluation import held_out_documents, read_documents
from receptance.evaluation.blocks import TextBlocks
from receptance.evaluation.documents import END_MARK
from receptance.tokenizer import load_tokenizer
from tests.evaluation.splits import END_OF_TEXT, LENGTHS, make_split

BYTES = load_tokenizer("bytes")


@pytest.mark.parametrize(
    ("max_tokens", "n_documents"),
    [(1, 1), (2, 2), (3, 2), (4, 3), (44, 3), (45, 4), (9999, 9), (None, 9)],
)
def test_documents_of_a_split_are_taken_from_the_first_until_there_are_enough_tokens(
    max_tokens, n_documents
):
    split = make_split(LENGTHS)

    documents = held_out_documents(split, max_tokens)

    assert [len(each.tokens) for each in documents] == [n + 1 for n in LENGTHS[:n_documents]]
    assert [each.n_bytes for each in documents] == [3 * n for n in LENGTHS[:n_documents]]
    for index, each in enumerate(documents):
        assert each.tokens.tolist() == [*split.document(index).tolist(), END_OF_TEXT]


def test_a_split_without_documents_is_an_error_that_names_the_file():
    with pytest.raises(DataError, match=r"'valid\.bin' must hold documents .* but it holds none"):
        held_out_documents(make_split([]))


@pytest.fixture
def files(tmp_path):
    for name, text in (("a", "abc\r\n"), ("b", "né"), ("c", "x")):
        (tmp_path / name).write_bytes(text.encode())
    return [tmp_path / name for name in "abc"]


def test_a_file_is_a_document_and_its_end_is_predicted(files):
    documents = read_documents(files, BYTES)

    assert [each.tokens.tolist() for each in documents] == [
        [*b"abc\r\n", 0],
        [*"né".encode(), 0],
        [*b"x", 0],
    ]
    assert [each.n_bytes for each in documents] == [5, 3, 1]


@pytest.mark.parametrize(
    ("max_tokens", "lengths", "n_bytes"),
    [
        (1, [1], [1]),
        (5, [5], [5]),
        (6, [6], [5]),
        (7, [6, 1], [5, 1]),
        (8, [6, 2], [5, 2]),
        (9, [6, 3], [5, 3]),
        (10, [6, 4], [5, 3]),
        (11, [6, 4, 1], [5, 3, 1]),
        (99, [6, 4, 2], [5, 3, 1]),
    ],
)
def test_texts_are_cut_after_so_many_tokens(files, max_tokens, lengths, n_bytes):
    documents = read_documents(files, BYTES, max_tokens)

    assert [len(each.tokens) for each in documents] == lengths
    assert [each.n_bytes for each in documents] == n_bytes


def test_a_long_text_is_read_in_pieces_and_is_one_document(tmp_path):
    text = "".join(f"line {index} of many\n" for index in range(60_000))
    (tmp_path / "long").write_text(text)

    (whole,) = read_documents([tmp_path / "long"], BYTES)
    (cut,) = read_documents([tmp_path / "long"], BYTES, 700_000)

    assert np.array_equal(whole.tokens, [*text.encode(), 0])
    assert whole.n_bytes == len(text)
    assert np.array_equal(cut.tokens, whole.tokens[:700_000])
    assert cut.n_bytes == 700_000


def test_an_empty_text_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")

    with pytest.raises(DataError, match=r"must not be empty, but '.*empty\.txt' is"):
        read_documents([tmp_path / "empty.txt"], BYTES)


def test_what_is_no_utf8_is_an_error_that_names_the_byte(tmp_path):
    (tmp_path / "picture").write_bytes(b"abc\xff\xfe")

    with pytest.raises(NotTextError, match=r"picture' must be plain UTF-8 text, but byte 3"):
        read_documents([tmp_path / "picture"], BYTES)


def test_of_held_out_pairs_the_bytes_of_the_answers_count(tmp_path):
    lines = [{"prompt": "2+2=", "answer": "4é"}, {"text": "all of it"}]
    (tmp_path / "train.txt").write_text("text")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    store = prepare(
        [tmp_path / "train.txt"], "bytes", tmp_path / "store", valid=[tmp_path / "a.jsonl"]
    )

    documents = held_out_documents(store.valid, tokenizer=store.tokenizer)

    assert [each.n_bytes for each in documents] == [3, 9]
    assert [each.n_counted for each in documents] == [4, 10]
    assert [len(each.tokens) for each in documents] == [8, 10]
    with pytest.raises(ValueError, match=r"`tokenizer` must be given, for .* has a mask; got None"):
        held_out_documents(store.valid)


def test_the_words_of_a_text_are_counted_in_blocks_of_its_bytes(tmp_path):
    (tmp_path / "long").write_text("word " * 1000)

    (whole,) = read_documents([tmp_path / "long"], BYTES)
    (cut,) = read_documents([tmp_path / "long"], BYTES, 1500)

    assert whole.words is not None
    assert cut.words is not None
    assert whole.words.tolist() == [205, 205, 205, 205, 181]  # one after the last white space
    assert cut.words.tolist() == [205, 96]


def test_a_text_that_is_cut_within_a_character_has_words_in_all_its_blocks(tmp_path):
    (tmp_path / "a").write_text("a" * 1024 + "é and more")

    documents = read_documents([tmp_path / "a"], BYTES, 1025)

    assert documents[0].n_bytes == 1025
    assert documents[0].words is not None
    assert documents[0].words.tolist() == [1, 0]
    found = TextBlocks(documents, BYTES)
    assert (found.bytes.tolist(), found.words.tolist()) == ([1024, 1], [1, 0])


def test_a_text_is_a_sequence_of_its_documents(files):
    text = read_documents(files, BYTES)

    assert [each.n_bytes for each in text[1:]] == [3, 1]
    assert text[-1].tokens.tolist() == [*b"x", 0]
    with pytest.raises(IndexError):
        text[3]


def sha256_of(tmp_path, name, content, max_tokens=None, **options):
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return read_documents([tmp_path / name], BYTES, max_tokens, **options).sha256


def test_the_hash_is_of_what_is_predicted(tmp_path):
    found = sha256_of(tmp_path, "a", "one")

    assert found == hashlib.sha256(b"one" + END_MARK).hexdigest()
    assert found == sha256_of(tmp_path, "a.gz", "one")
    assert found == sha256_of(tmp_path, "a.jsonl", '{"text": "one"}', text_field="text")
    assert found == sha256_of(
        tmp_path, "a", "one and more", 4, boundaries=parse_boundaries(" ", None)
    )
    # Neither cut, nor divided elsewhere, nor another text.
    others = [
        sha256_of(tmp_path, "a", "one", 3),
        sha256_of(tmp_path, "a", "o#ne", boundaries=parse_boundaries("#", None)),
        sha256_of(tmp_path, "a", "on#e", boundaries=parse_boundaries("#", None)),
        sha256_of(tmp_path, "a", "One"),
    ]
    assert len({found, *others}) == 5


def test_records_and_split_texts_are_documents_and_blank_ones_are_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": " "}\n{"text": "né"}\n')
    (tmp_path / "b.txt").write_text("#x\n#yz")

    documents = read_documents(
        [tmp_path / "a.jsonl", tmp_path / "b.txt"], BYTES, boundaries=parse_boundaries(None, "#")
    )

    texts = [BYTES.decode(each.tokens.tolist()) for each in documents]
    assert texts == ["one", "né", "#x\n", "#yz"]
    assert [each.n_bytes for each in documents] == [3, 3, 3, 3]
    assert all(each.tokens[-1] == END_OF_TEXT for each in documents)


def test_of_records_the_field_that_is_named_is_read_and_of_pairs_all(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "1+1=", "answer": "2", "note": "sum"}\n')

    (pair,) = read_documents([tmp_path / "a.jsonl"], BYTES)
    (note,) = read_documents([tmp_path / "a.jsonl"], BYTES, text_field="note")

    assert BYTES.decode(pair.tokens.tolist()) == "1+1=2"
    assert (pair.n_bytes, pair.mask) == (5, None)
    assert BYTES.decode(note.tokens.tolist()) == "sum"


@pytest.mark.parametrize(("max_tokens", "texts"), [(4, ["one"]), (5, ["one", "t"]), (2, ["on"])])
def test_records_too_are_cut_after_so_many_tokens(tmp_path, max_tokens, texts):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')

    documents = read_documents([tmp_path / "a.jsonl"], BYTES, max_tokens)

    assert [BYTES.decode(each.tokens.tolist()) for each in documents] == texts
    assert sum(len(each.tokens) for each in documents) == max_tokens


@pytest.mark.parametrize("content", ["\n \n", '{"text": ""}\n'])
def test_a_file_of_blank_documents_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "blank.jsonl").write_text(content)

    with pytest.raises(DataError, match=r"must not be empty, but '.*blank\.jsonl' is, or is blank"):
        read_documents([tmp_path / "blank.jsonl"], BYTES)

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from receptance.data import TokenStore, prepare
from receptance.data.documents import PIECE_CHARACTERS, NotTextError, Piece
from receptance.data.jsonl import read_jsonl, record_pieces
from receptance.data.records import Part, RecordFormat
from receptance.errors import DataError


def pieces(folder: Path, content: bytes, name: str = "a.jsonl") -> list[Piece]:
    (folder / name).write_bytes(content)
    return list(read_jsonl(folder / name, RecordFormat()))


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "one"}\n{"text": "two\\n\xc3\xa9"}',
        b'{"text": "one"}\n{"text": "two\\n\\u00e9"}\n',
        b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two\\n\\u00e9"}\r\n',
    ],
    ids=["no line feed at the end", "escapes", "a byte-order mark and carriage returns"],
)
def test_each_line_is_a_document(tmp_path: Path, content: bytes) -> None:
    expected = [Piece("one", begins=True, ends=True), Piece("two\né", begins=True, ends=True)]
    assert pieces(tmp_path, content) == expected
    assert pieces(tmp_path, gzip.compress(content), "a.jsonl.gz") == expected


def test_empty_lines_and_empty_texts_are_blank_documents(tmp_path: Path) -> None:
    found = pieces(tmp_path, b'\n{"text": ""}\n \r\n{"text": "one"}\n\n')
    assert [piece.is_blank_document for piece in found] == [True, True, True, False, True]
    assert pieces(tmp_path, b"") == pieces(tmp_path, b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", r"the line must be one JSON object, but is not JSON \(Expecting property name"),
        (b"[" * 200_000, "the line must be one JSON object, but is not JSON"),
        (b'{"text": 1' + b"0" * 5000 + b"}", "is not JSON .*4300"),
        (b"[1]", "the line must be a JSON object, but is a list"),
        (b'{"text": "\\ud83d"}', "`text` must be Unicode text, but character 0 is half"),
        (b'{"body": "x"}', "must have a field 'text'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/a\.jsonl:3: .*{message}"):
        pieces(tmp_path, b'{"text": "one"}\n\n' + line + b'\n{"text": "two"}\n')


def test_a_line_that_is_not_utf_8_makes_a_file_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(NotTextError, match=r"a\.jsonl:2: the line must be UTF-8, but byte 10 is"):
        pieces(tmp_path, b'{"text": "one"}\n{"text": "\xff"}\n')


def test_a_line_may_be_huge_but_not_endless(tmp_path: Path) -> None:
    text = "word " * (PIECE_CHARACTERS // 2)
    found = pieces(tmp_path, json.dumps({"text": text}).encode())
    assert len(found) > 2
    assert "".join(piece.text for piece in found) == text
    assert [piece.begins for piece in found] == [True] + [False] * (len(found) - 1)
    assert [piece.ends for piece in found] == [False] * (len(found) - 1) + [True]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"x" * (65 << 20)))
    with pytest.raises(DataError, match=r"b\.jsonl\.gz:1: a line must have at most 67108864 bytes"):
        list(read_jsonl(tmp_path / "b.jsonl.gz", RecordFormat()))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps({"text": "word " * 200}).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line * 10_000)
    tracemalloc.start()
    n = sum(1 for _ in read_jsonl(tmp_path / "a.jsonl", RecordFormat()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 10_000
    # Of a file of 10 MB: a few blocks of a mebibyte.
    assert peak < 5 << 20


def test_a_long_part_comes_in_pieces_of_its_own() -> None:
    long = "word " * (PIECE_CHARACTERS // 2)
    found = list(record_pieces([Part(long, 3), Part("yes", None)]))
    assert "".join(piece.text for piece in found[:-1]) == long
    assert found[-1] == Piece("yes", begins=False, ends=True)
    assert [piece.identity != "" for piece in found] == [True] + [False] * (len(found) - 1)
    assert len(found) > 3
    assert [piece.counted for piece in found] == [3] + [0] * (len(found) - 2) + [None]


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in pairs]
    path.write_text("\n".join(lines))
    return path


def decoded(store: TokenStore, split: str) -> list[str]:
    documents = getattr(store, split)
    return [
        store.tokenizer.decode(documents.document(index).tolist())
        for index in range(documents.n_documents)
    ]


def test_pairs_with_one_prompt_can_be_held_out(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.jsonl", [("Say: ", str(number)) for number in range(100)])
    store = prepare([path], "bytes", tmp_path / "store", valid_fraction=0.2)
    assert 5 < store.valid.n_documents < 50
    found = decoded(store, "train") + decoded(store, "valid")
    assert sorted(found) == sorted(f"Say: {number}" for number in range(100))


def test_of_one_pair_no_end_is_held_out(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.jsonl", [("A long prompt", "and an answer")])
    with pytest.raises(DataError, match=r"the one document must be plain text .*--valid-fraction"):
        prepare([path], "bytes", tmp_path / "store")
    store = prepare([path], "bytes", tmp_path / "store", valid_fraction=0.0)
    assert decoded(store, "train") == ["A long promptand an answer"]


def test_no_token_spans_a_prompt_and_its_answer(tmp_path: Path) -> None:
    """A model that is prompted has read exactly the prompt's own tokens."""
    pairs = [(f"the cat {number} s", "at on the mat") for number in range(50)]
    path = write_pairs(tmp_path / "a.jsonl", pairs)
    store = prepare([path], "train:300", tmp_path / "store", valid_fraction=0.0)
    encode = store.tokenizer.encode
    expected = [encode(prompt) + encode(answer) for prompt, answer in pairs]
    found = [store.train.document(index).tolist() for index in range(50)]
    assert found == expected


def test_the_answers_and_what_ends_them_are_what_counts(tmp_path: Path) -> None:
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    lines = [chat, {"prompt": "2+2=", "answer": "4é"}, {"text": "all"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    store = prepare([tmp_path / "a.jsonl"], "bytes", tmp_path / "store", valid_fraction=0.0)

    assert store.train.mask is not None
    counted = store.train.tokens[store.train.mask == 1].tolist()
    said = [" two\n\nUser", " four", "4é", "all"]
    end = store.end_of_text
    expected = [*said[0].encode(), *said[1].encode(), end, *said[2].encode(), end]
    assert counted == [*expected, *said[3].encode(), end]
    entry = store.manifest.splits.train.mask
    assert entry is not None
    assert (entry.tokens, entry.bytes) == (len(counted), sum(len(each.encode()) for each in said))
    assert store.valid.mask is not None
    assert len(store.valid.mask) == 0
    store.verify()


def test_with_the_loss_on_all_the_tokens_are_the_same_and_there_is_no_mask(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.jsonl", [("Say: ", str(number)) for number in range(100)])
    masked = prepare([path], "bytes", tmp_path / "masked")
    records = RecordFormat(loss_on="all")
    store = prepare([path], "bytes", tmp_path / "store", records=records)

    assert store.train.mask is store.valid.mask is None
    assert store.train.tokens.tolist() == masked.train.tokens.tolist()
    assert not (tmp_path / "store" / "train.mask").exists()
    assert "mask" not in (tmp_path / "store" / "store.json").read_text()
    assert store.sha256 != masked.sha256

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from receptance.data import prepare
from receptance.data.documents import Piece
from receptance.data.records import RecordFormat
from receptance.data.tables import ROWS_AT_ONCE, read_table
from receptance.errors import DataError, ReceptanceError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pa = pytest.importorskip("pyarrow", reason="the extra [data] is not installed")
    from pyarrow.parquet import write_table

    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        write_table(table, path, row_group_size=100)
        return path
    new = pa.ipc.new_file if path.stem == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
def test_each_row_is_a_document(tmp_path: Path, name: str) -> None:
    n = 3 * ROWS_AT_ONCE + 5
    path = write(tmp_path / name, [{"id": i, "text": f"text {i}"} for i in range(n)])
    expected = [Piece(f"text {i}", begins=True, ends=True) for i in range(n)]
    assert list(read_table(path, RecordFormat())) == expected


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow"])
def test_rows_are_texts_pairs_and_chats_by_what_is_not_null(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name,
        [
            {"text": "one", "prompt": None, "answer": None, "messages": None},
            {"text": None, "prompt": "2+2=", "answer": "4", "messages": None},
            {"text": None, "prompt": None, "answer": None, "messages": CHAT},
        ],
    )
    pieces = list(read_table(path, RecordFormat()))
    assert [(piece.text, piece.counted) for piece in pieces] == [
        ("one", None),
        ("2+2=", 0),
        ("4", None),
        ("User: Hi\n\nAssistant:", 0),
        (" Hello", None),
    ]


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"text": "one"}, {"text": "a\0"}])
    with pytest.raises(DataError, match=r"a\.parquet, row 2: `text` must be text, but character 1"):
        list(read_table(path, RecordFormat()))
    path = write(tmp_path / "b.parquet", [{"number": 3}])
    with pytest.raises(DataError, match=r"b\.parquet, row 1: .* but it has 'number'"):
        list(read_table(path, RecordFormat()))


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
@pytest.mark.parametrize("size", [0, 5, 100, 800])
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, name: str, size: int) -> None:
    path = write(tmp_path / name, [{"text": f"text {i}"} for i in range(99)])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"must be a whole \w+ table of UTF-8 text, but it c"):
        list(read_table(path, RecordFormat()))


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra [data] is not installed")
    with pytest.raises(FileNotFoundError):
        list(read_table(tmp_path / "a.parquet", RecordFormat()))


def test_without_pyarrow_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ReceptanceError, match=r"pip install 'receptance\[data\]'"):
        prepare([tmp_path / "a.parquet"], "bytes", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_table_becomes_a_store(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"q": f"{i}+{i}=", "a": str(2 * i)} for i in range(9)])
    records = RecordFormat(prompt_field="q", answer_field="a")
    store = prepare([path], "bytes", tmp_path / "store", valid_fraction=0.0, records=records)
    assert store.tokenizer.decode(store.train.document(3).tolist()) == "3+3=6"
    assert store.train.mask is not None
    assert store.train.mask[-3:].tolist() == [1, 1, 1]


def test_a_data_set_that_was_saved_to_disk_is_read_whole(tmp_path: Path) -> None:
    # As `save_to_disk` of datasets lays it out: streams in shards, and what describes them.
    for name, rows in {"data-00000-of-00002": ["one", "two"], "data-00001-of-00002": ["é"]}.items():
        path = tmp_path / "saved" / "train" / f"{name}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, [{"text": text, "id": number} for number, text in enumerate(rows)])
    files = [{"filename": f"data-0000{n}-of-00002.arrow"} for n in (0, 1)]
    state = {"_data_files": files, "_fingerprint": "f" * 16, "_format_type": None, "_split": None}
    features = {"text": {"dtype": "string", "_type": "Value"}}
    (tmp_path / "saved" / "train" / "state.json").write_text(json.dumps(state))
    described = {"citation": "", "description": "", "features": features}
    (tmp_path / "saved" / "train" / "dataset_info.json").write_text(json.dumps(described))
    (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    store = prepare([tmp_path / "saved"], "bytes", tmp_path / "store", valid_fraction=0.0)
    train = store.train
    texts = [store.tokenizer.decode(train.document(n).tolist()) for n in range(train.n_documents)]
    assert texts == ["one", "two", "é"]
    assert store.sources[0].files == 2

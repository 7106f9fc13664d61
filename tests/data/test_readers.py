import gzip
from pathlib import Path

import pytest

from receptance.data.documents import Boundaries
from receptance.data.readers import holds_records, read_file
from receptance.data.records import RecordFormat


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.jsonl.gz", "a.txt", "a.json"])
def test_the_name_of_a_file_tells_how_it_is_read(tmp_path: Path, name: str) -> None:
    content = b'{"text": "one"}\n{"text": "two"}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    found = [piece.text for piece in read_file(tmp_path / name, Boundaries(), RecordFormat())]

    assert found == (["one", "two"] if "jsonl" in name.lower() else [content.decode()])
    assert holds_records(tmp_path / name) == ("jsonl" in name.lower())

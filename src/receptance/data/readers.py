"""Which reader makes documents of a file; its name tells."""

from collections.abc import Iterator
from pathlib import Path

from receptance.data import jsonl, tables
from receptance.data.documents import Boundaries, Piece, read_pieces
from receptance.data.records import RecordFormat


def holds_records(path: Path) -> bool:
    """Whether a file is one of records, by its name; any other is text."""
    return path.name.lower().endswith((*jsonl.SUFFIXES, *tables.SUFFIXES))


def read_file(path: Path, boundaries: Boundaries, records: RecordFormat) -> Iterator[Piece]:
    """Yield the documents of a file, piece by piece, blank ones too.

    Args:
        path: A file `*.jsonl` or `*.jsonl.gz` holds a record a line, one `*.parquet` or `*.arrow` a
            record a row; any other is text.
        boundaries: Where documents of a text end.
        records: What of a record is its text.

    Raises:
        NotTextError: If what it holds is not UTF-8 text.
        DataError: If a record is wrong, or the file is damaged.
        ReceptanceError: If the extra that reads it is not installed.
        OSError: If the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith(jsonl.SUFFIXES):
        return jsonl.read_jsonl(path, records)
    if name.endswith(tables.SUFFIXES):
        return tables.read_table(path, records)
    return read_pieces(path, boundaries)

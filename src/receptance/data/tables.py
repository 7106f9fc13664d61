"""Parquet and Arrow: tables of one record a row, as Hugging Face keeps its data sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from receptance.data.documents import Piece
from receptance.data.jsonl import record_pieces
from receptance.data.records import RecordFormat, WrongRecordError
from receptance.errors import DataError, ReceptanceError

SUFFIXES = (".parquet", ".arrow")

ROWS_AT_ONCE = 256
"""How many rows are held as Python's objects."""


def read_table(path: Path, records: RecordFormat) -> Iterator[Piece]:
    """Yield the documents of a table, piece by piece; each part begins a piece.

    A field that is null is as one that is not there.

    Args:
        path: A Parquet file, or an Arrow stream or file, as `datasets` saves.
        records: What of a row is its text.

    Raises:
        DataError: If a row is no record, or the file is damaged.
        ReceptanceError: If pyarrow is not installed.
        OSError: If the file cannot be read.
    """
    for number, row in enumerate(_rows(path, records), start=1):
        record = {name: value for name, value in row.items() if value is not None}
        try:
            parts = records.parts(record)
        except WrongRecordError as error:
            raise DataError(f"{path}, row {number}: {error}") from None
        yield from record_pieces(parts)


def _rows(path: Path, records: RecordFormat) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ReceptanceError(
            f"{str(path)!r} is read by pyarrow, which is not installed; install it with: "
            "pip install 'receptance[data]'"
        ) from error
    # An error to open a file is one of the system, with its number; Arrow's own have none.
    with path.open("rb"):
        pass
    batches = _parquet_batches if path.name.lower().endswith(".parquet") else _arrow_batches
    try:
        for batch in batches(path, records):
            for first in range(0, len(batch), ROWS_AT_ONCE):
                yield from batch.slice(first, ROWS_AT_ONCE).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{str(path)!r} must be a whole {path.suffix.removeprefix('.')} table of UTF-8 text, "
            f"but it cannot be read ({error}); fetch it again, or leave it out"
        ) from error


def _parquet_batches(path: Path, records: RecordFormat) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - an extra

    with ParquetFile(path) as file:
        columns = records.fields_among(file.schema_arrow.names)
        yield from file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False)


def _arrow_batches(path: Path, records: RecordFormat) -> Iterator[Any]:
    from pyarrow import ipc, memory_map  # noqa: PLC0415 - an extra

    with memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            file = ipc.open_file(source)
            for index in range(file.num_record_batches):
                batch = file.get_batch(index)
                yield batch.select(records.fields_among(batch.schema.names))
        else:
            for batch in ipc.open_stream(source):
                yield batch.select(records.fields_among(batch.schema.names))

"""Archives of the zip format written part by part, each of which may lie."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

STORED, DEFLATED = 0, 8
_ALIGNMENT = 64


@dataclass(frozen=True)
class Record:
    """A file in an archive; what is None is as it should be."""

    name: str | bytes
    data: bytes
    method: int = STORED
    flags: int = 0
    size: int | None = None
    """The claim of how many bytes it unfolds to."""
    packed_size: int | None = None
    offset: int | None = None
    """Where the directory says that it begins."""
    crc: int | None = None
    extra: bytes = b""
    """Of its entry in the directory."""
    local: dict[str, Any] = field(default_factory=dict)
    """What its own header says otherwise: name, method, size, flags."""
    is_listed: bool = True
    """Whether the directory has it."""
    is_written: bool = True
    """Whether its bytes are there."""


@dataclass(frozen=True)
class End:
    """What the end of an archive says; what is None is as it should be."""

    count: int | None = None
    directory_size: int | None = None
    directory_offset: int | None = None
    disk: int = 0
    comment: bytes = b""
    comment_size: int | None = None
    is_large: bool = False
    """Whether there is an end in 64 bits too, which then is the one that counts."""


def archive(records: Sequence[Record], end: End | None = None, before: bytes = b"") -> bytes:
    """Return the bytes of an archive, its records at multiples of 64 bytes as PyTorch has them."""
    content, directory, count = bytearray(before), bytearray(), 0
    for record in records:
        begin = len(content)
        if record.is_written:
            content += _local(record, begin)
        if record.is_listed:
            directory += _listed(record, begin)
            count += 1
    return (
        bytes(content)
        + bytes(directory)
        + _end(end or End(), count, bytes(directory), len(content))
    )


def _packed(record: Record) -> bytes:
    if record.method != DEFLATED:
        return record.data
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(record.data) + deflate.flush()


def _local(record: Record, begin: int) -> bytes:
    """Return a record with its own header, padded so that its bytes are aligned."""
    lies = record.local
    name = _raw(lies.get("name", record.name))
    packed = _packed(record)
    size = lies.get("size", len(record.data) if record.size is None else record.size)
    packed_size = lies.get(
        "size", len(packed) if record.packed_size is None else record.packed_size
    )
    padding = -(begin + 30 + len(name) + 4) % _ALIGNMENT
    extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    return (
        struct.pack(
            "<4sHHHHHIIIHH",
            *(b"PK\3\4", 20, lies.get("flags", record.flags), lies.get("method", record.method)),
            *(0, 0, _crc(record), packed_size & 0xFFFFFFFF, size & 0xFFFFFFFF),
            *(len(name), len(extra)),
        )
        + name
        + extra
        + packed
    )


def _listed(record: Record, begin: int) -> bytes:
    """Return the entry of the directory; sizes of more than 32 bits go into its extra field."""
    name, packed = _raw(record.name), _packed(record)
    values = [
        len(record.data) if record.size is None else record.size,
        len(packed) if record.packed_size is None else record.packed_size,
        begin if record.offset is None else record.offset,
    ]
    large = b"".join(struct.pack("<Q", each % 2**64) for each in values if each >= 0xFFFFFFFF)
    extra = record.extra + (struct.pack("<HH", 1, len(large)) + large if large else b"")
    size, packed_size, offset = (min(each, 0xFFFFFFFF) for each in values)
    return (
        struct.pack(
            "<4sHHHHHHIIIHHHHHII",
            *(b"PK\1\2", 20, 20, record.flags, record.method, 0, 0, _crc(record)),
            *(packed_size, size, len(name), len(extra), 0, 0, 0, 0, offset),
        )
        + name
        + extra
    )


def _end(end: End, count: int, directory: bytes, offset: int) -> bytes:
    said = count if end.count is None else end.count
    size = len(directory) if end.directory_size is None else end.directory_size
    place = offset if end.directory_offset is None else end.directory_offset
    large = b""
    if end.is_large:
        large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, said, said, size, place)
        large += struct.pack("<4sIQI", b"PK\6\7", 0, offset + len(directory), 1)
        said, size, place = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    length = len(end.comment) if end.comment_size is None else end.comment_size
    return (
        large
        + struct.pack(
            "<4sHHHHIIH",
            *(b"PK\5\6", end.disk, end.disk, said & 0xFFFF, said & 0xFFFF),
            *(size & 0xFFFFFFFF, place & 0xFFFFFFFF, length),
        )
        + end.comment
    )


def _crc(record: Record) -> int:
    return zlib.crc32(record.data) if record.crc is None else record.crc


def _raw(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()

"""Megatron's `.bin` and `.idx` files, written by the description of the format."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}


def write_binidx(
    index: Path,
    sequences: Sequence[Sequence[int]],
    *,
    dtype: str = "uint16",
    documents: Sequence[int] | None = None,
) -> Path:
    """Write both files and return the index; by default each sequence is a document."""
    flat = [token for sequence in sequences for token in sequence]
    stored = np.dtype(dtype).newbyteorder("<")
    index.with_suffix(".bin").write_bytes(np.array(flat, stored).tobytes())
    sizes = [len(sequence) for sequence in sequences]
    places = [sum(sizes[:i]) * stored.itemsize for i in range(len(sizes))]
    edges = list(range(len(sizes) + 1)) if documents is None else list(documents)
    index.write_bytes(
        b"MMIDIDX\0\0"
        + struct.pack("<QBQQ", 1, CODES[dtype], len(sizes), len(edges))
        + np.array(sizes, "<i4").tobytes()
        + np.array(places, "<i8").tobytes()
        + np.array(edges, "<i8").tobytes()
    )
    return index

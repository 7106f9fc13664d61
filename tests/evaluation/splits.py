"""Splits of random tokens, to be read as documents."""

from pathlib import Path

import numpy as np

from receptance.data import Split

END_OF_TEXT = 0
LENGTHS = [0, 1, 40, 7, 7, 100, 2, 0, 33]


def make_split(lengths: list[int], seed: int = 3) -> Split:
    """Return documents of random tokens, each of three bytes a token."""
    generator = np.random.default_rng(seed)
    stream: list[int] = []
    documents = []
    for length in lengths:
        documents.append((len(stream), 3 * length))
        stream += [*generator.integers(1, 40, length).tolist(), END_OF_TEXT]
    pairs = np.array(documents, np.uint64).reshape(-1, 2)
    tokens = np.array(stream, np.uint16)
    return Split(path=Path("valid.bin"), tokens=tokens, documents=pairs, n_bytes=3 * sum(lengths))

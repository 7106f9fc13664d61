"""Results of evaluations that never were."""

from dataclasses import replace
from typing import Any

import torch

from receptance.evaluation import (
    BlockSums,
    ModelEntry,
    Result,
    TokenizerEntry,
    text_entries,
)

MODEL = ModelEntry(
    path="small", fingerprint="f" * 64, architecture="rwkv4", parameters=99, n_layer=1, n_embd=8,
    vocab_size=256, matrices="float32",
)  # fmt: skip


def make_result(
    nats: list[float], *, tokens_per_block: float = 256.0, text: str = "a", **changed: Any
) -> Result:
    """Return the result of a text with so many nats in each of its blocks of 1,024 bytes."""
    n_blocks = len(nats)
    sums = BlockSums(
        nats=torch.tensor(nats, dtype=torch.float64),
        tokens=torch.full((n_blocks,), tokens_per_block, dtype=torch.float64),
        bytes=torch.full((n_blocks,), 1024.0, dtype=torch.float64),
        words=torch.full((n_blocks,), 150.0, dtype=torch.float64),
    )
    result = Result(
        model=MODEL,
        tokenizer=TokenizerEntry(name="bytes", sha256="0" * 64),
        settings={"reading": "carried", "start": "zero"},
        versions={"receptance": "1", "threads": 2},
        date="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        texts=[f"{text}.txt"],
        text_sha256=text * 64,
        **text_entries(sums, 1),
    )
    return replace(result, **changed)

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data import Batches, Sample, Split
from receptance.errors import DataError

GOLDEN_FIRST = [Sample(0, 981), Sample(0, 13), Sample(0, 701), Sample(0, 717)]
GOLDEN_LATE = [Sample(64516129, first) for first in (98, 154, 970, 986)]


def make_split(n_tokens: int, dtype: str = "uint16") -> Split:
    """Return a split whose token t is t, one document."""
    return Split(
        path=Path("store/train.bin"),
        tokens=np.arange(n_tokens, dtype=dtype),
        documents=np.array([[0, n_tokens - 1]], np.uint64),
        n_bytes=n_tokens - 1,
    )


def make_batches(
    n_tokens: int = 1000, ctx_len: int = 16, batch_size: int = 4, seed: int = 0
) -> Batches:
    return Batches(
        make_split(n_tokens),
        ctx_len=ctx_len,
        batch_size=batch_size,
        seed=seed,
        end_of_text=0,
        vocab_size=65536,
    )


def test_targets_are_the_tokens_that_follow() -> None:
    batch = make_batches().batch(3)
    assert batch.tokens.shape == batch.targets.shape == batch.resets.shape == (4, 16)
    assert batch.tokens.dtype == batch.targets.dtype == torch.int64
    # Token t is t, and the stream is a ring of a thousand tokens.
    assert torch.equal(batch.targets, (batch.tokens + 1) % 1000)
    assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])


def test_rows_are_the_samples_that_are_named() -> None:
    batches = make_batches()
    for step in range(40):
        first_tokens = [sample.first_token for sample in batches.samples(step)]
        assert batches.batch(step).tokens[:, 0].tolist() == first_tokens


@settings(deadline=None, max_examples=25)
@given(
    n_tokens=st.integers(2, 120),
    ctx_len=st.integers(1, 40),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**64),
)
def test_an_epoch_reads_no_token_twice_and_leaves_few_unread(
    n_tokens: int, ctx_len: int, batch_size: int, seed: int
) -> None:
    ctx_len = min(ctx_len, n_tokens - 1)
    batches = make_batches(n_tokens, ctx_len, batch_size, seed)
    rows = [
        (sample.epoch, row)
        for step in range(2 * batches.steps_per_epoch)
        for sample, row in zip(
            batches.samples(step), batches.batch(step).tokens.tolist(), strict=True
        )
    ]
    for epoch in (0, 1):
        epoch_rows = [row for at, row in rows if at == epoch][: batches.n_samples]
        counts = Counter(token for row in epoch_rows for token in row)
        assert max(counts.values()) == 1
        assert len(epoch_rows) == batches.n_samples
        assert len(counts) >= n_tokens - ctx_len


def test_any_step_alone_is_the_step_of_the_sequence() -> None:
    batches = make_batches(n_tokens=301, batch_size=7)
    sequence = [batches.batch(step) for step in range(30)]
    for step in (29, 0, 17):
        direct = make_batches(n_tokens=301, batch_size=7).batch(step)
        assert torch.equal(direct.tokens, sequence[step].tokens)
        assert torch.equal(direct.targets, sequence[step].targets)


def test_the_order_does_not_depend_on_the_batch_size() -> None:
    small, large = make_batches(batch_size=2), make_batches(batch_size=12)
    in_small = [sample for step in range(60) for sample in small.samples(step)]
    in_large = [sample for step in range(10) for sample in large.samples(step)]
    assert in_small == in_large


def test_epochs_differ_in_order_and_in_borders() -> None:
    batches = make_batches(n_tokens=161, batch_size=10)
    epochs = [[sample.first_token for sample in batches.samples(step)] for step in range(5)]
    borders = {frozenset(first_tokens) for first_tokens in epochs}
    assert batches.n_samples == batches.batch_size
    assert len(borders) == 5


def test_seeds_differ() -> None:
    assert make_batches(seed=1).samples(0) != make_batches(seed=2).samples(0)


def test_the_order_never_changes_between_machines_and_versions() -> None:
    assert make_batches().samples(0) == GOLDEN_FIRST
    assert make_batches().samples(10**9) == GOLDEN_LATE


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    batches = make_batches(n_tokens=40, ctx_len=16, batch_size=7)
    assert batches.n_samples == 2
    assert [sample.epoch for sample in batches.samples(1)] == [3, 4, 4, 5, 5, 6, 6]
    assert batches.batch(1).tokens.shape == (7, 16)


def test_resets_mark_the_end_of_text_tokens_that_are_read() -> None:
    split = Split(
        path=Path("train.bin"),
        tokens=np.array([5, 6, 0, 7, 0, 8, 9, 4, 0], np.uint16),
        documents=np.array([[0, 2], [3, 1], [5, 3]], np.uint64),
        n_bytes=6,
    )
    batches = Batches(split, ctx_len=4, batch_size=2, seed=3, end_of_text=0, vocab_size=65536)
    for step in range(9):
        batch = batches.batch(step)
        assert batch.resets.dtype == torch.bool
        assert torch.equal(batch.resets, batch.tokens == 0)
    assert any(batches.batch(step).resets.any() for step in range(9))


def test_a_batch_is_the_callers_to_change() -> None:
    batches = make_batches()
    batch = batches.batch(0)
    batch.tokens.zero_()
    assert torch.equal(batch.targets, batches.batch(0).targets)
    assert not torch.equal(batch.tokens, batches.batch(0).tokens)


def test_wide_tokens_are_read_whole() -> None:
    split = make_split(70_000, dtype="uint32")
    batches = Batches(split, ctx_len=69_999, batch_size=1, seed=0, end_of_text=0, vocab_size=70_000)
    assert batches.batch(0).tokens.max() >= 69_998


def test_counts_of_an_epoch() -> None:
    batches = make_batches(n_tokens=161, ctx_len=16, batch_size=4)
    assert batches.n_samples == 10
    assert batches.steps_per_epoch == 3
    assert make_batches(n_tokens=160, ctx_len=16).n_samples == 9


def test_too_short_a_split_says_what_is_needed() -> None:
    message = (
        r"'store.train\.bin' must have at least 17 tokens for one sample of ctx_len=16, but has 16"
        "; use a smaller ctx_len or prepare more text"
    )
    with pytest.raises(DataError, match=message):
        make_batches(n_tokens=16, ctx_len=16)
    assert make_batches(n_tokens=17, ctx_len=16).n_samples == 1


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 4"):
        make_batches(ctx_len=0)
    with pytest.raises(ValueError, match="must be at least 1, got 16 and 0"):
        make_batches(batch_size=0)
    with pytest.raises(ValueError, match="`step` must be at least 0, got -1"):
        make_batches().samples(-1)


def test_a_token_of_no_vocabulary_is_a_damaged_file() -> None:
    batches = Batches(
        make_split(1000), ctx_len=16, batch_size=70, seed=0, end_of_text=0, vocab_size=900
    )
    with pytest.raises(
        DataError, match=r"must hold tokens below 900, but step 0 reads 9\d\d; .*--ver"
    ):
        batches.batch(0)

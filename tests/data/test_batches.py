from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data import Batch, Batches, Order, Sample, Split
from receptance.data.authors_order import authors_context
from receptance.errors import DataError

GOLDEN_FIRST = [Sample(0, 981), Sample(0, 13), Sample(0, 701), Sample(0, 717)]
GOLDEN_LATE = [Sample(64516129, first) for first in (98, 154, 970, 986)]


def make_split(n_tokens: int, dtype: str = "uint16", *, has_mask: bool = True) -> Split:
    """Return a split whose token t is t, one document; every third one counts."""
    thirds = (np.arange(n_tokens) % 3 == 0).astype(np.uint8)
    return Split(
        path=Path("store/train.bin"),
        tokens=np.arange(n_tokens, dtype=dtype),
        documents=np.array([[0, n_tokens - 1]], np.uint64),
        n_bytes=n_tokens - 1,
        mask=thirds if has_mask else None,
    )


def make_batches(
    n_tokens: int = 1000,
    ctx_len: int = 16,
    seed: int = 0,
    segments: int = 1,
    order: Order = "permuted",
) -> Batches:
    return Batches(
        make_split(n_tokens),
        ctx_len=ctx_len,
        seed=seed,
        end_of_text=0,
        vocab_size=65536,
        segments=segments,
        order=order,
    )


def test_targets_are_the_tokens_that_follow() -> None:
    batch = make_batches().batch(12, 4)
    assert batch.tokens.shape == batch.targets.shape == batch.resets.shape == (4, 16)
    assert batch.tokens.dtype == batch.targets.dtype == torch.int64
    # Token t is t, and the stream is a ring of a thousand tokens.
    assert torch.equal(batch.targets, (batch.tokens + 1) % 1000)
    assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])


def test_rows_are_the_samples_that_are_named() -> None:
    batches = make_batches()
    for place in range(0, 160, 4):
        first_tokens = [sample.first_token for sample in batches.samples(place, 4)]
        assert batches.batch(place, 4).tokens[:, 0].tolist() == first_tokens


@settings(deadline=None, max_examples=25)
@given(
    n_tokens=st.integers(2, 120),
    ctx_len=st.integers(1, 40),
    segments=st.integers(1, 4),
    seed=st.integers(0, 2**64),
)
def test_an_epoch_reads_no_token_twice_and_leaves_few_unread(
    n_tokens: int, ctx_len: int, segments: int, seed: int
) -> None:
    ctx_len = min(ctx_len, max(1, (n_tokens - 1) // segments))
    segments = min(segments, n_tokens - 1)
    batches = make_batches(n_tokens, ctx_len, seed, segments)
    for epoch in (0, 1):
        place, n = epoch * batches.n_samples, batches.n_samples
        assert {sample.epoch for sample in batches.samples(place, n)} == {epoch}
        parts = [batches.batch(place, n, each).tokens for each in range(segments)]
        counts = Counter(torch.cat(parts).flatten().tolist())
        assert max(counts.values()) == 1
        assert len(counts) >= n_tokens - segments * ctx_len


def test_the_order_of_the_authors_is_theirs_whatever_the_seed() -> None:
    # 1000 tokens are 62 contexts, and 59 is the largest prime below that is 2 modulo 3.
    batches = make_batches(seed=3, order="authors")
    assert (batches.n_samples, batches.epoch_tokens) == (59, 59 * 16)
    found = batches.samples(0, 130)
    assert [each.epoch for each in found] == [0] * 59 + [1] * 59 + [2] * 12
    assert [each.first_token for each in found] == [
        16 * authors_context(place, 59) for place in range(130)
    ]
    assert make_batches(seed=4, order="authors").samples(0, 130) == found


@settings(deadline=None, max_examples=25)
@given(n_tokens=st.integers(3, 200), ctx_len=st.integers(1, 40), segments=st.integers(1, 4))
def test_an_epoch_of_the_authors_reads_no_token_twice(
    n_tokens: int, ctx_len: int, segments: int
) -> None:
    ctx_len = min(ctx_len, max(1, n_tokens // (3 * segments)))
    segments = min(segments, n_tokens // 3)
    batches = make_batches(n_tokens, ctx_len, 0, segments, "authors")
    parts = [batches.batch(0, batches.n_samples, each) for each in range(segments)]
    counts = Counter(torch.cat([part.tokens for part in parts]).flatten().tolist())
    assert max(counts.values()) == 1
    assert len(counts) == batches.epoch_tokens
    # No sample goes over the end of the stream, which the authors do not read as a ring.
    assert all(torch.equal(part.targets, part.tokens + 1) for part in parts)


def test_too_few_tokens_for_the_order_of_the_authors_are_told() -> None:
    with pytest.raises(DataError, match="the order 'authors' must have at least 48 tokens"):
        make_batches(n_tokens=47, order="authors")


def test_any_place_alone_is_the_place_of_the_sequence() -> None:
    batches = make_batches(n_tokens=301)
    sequence = batches.batch(0, 210)
    for place in (203, 0, 119):
        direct = make_batches(n_tokens=301).batch(place, 7)
        assert torch.equal(direct.tokens, sequence.tokens[place : place + 7])
        assert torch.equal(direct.targets, sequence.targets[place : place + 7])


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 6, 12])
def test_the_rows_of_ranks_are_the_rows_of_the_batch(n_ranks: int) -> None:
    batches, n_rows = make_batches(), 12 // n_ranks
    whole = batches.batch(84, 12)
    shares = [batches.batch(84 + rank * n_rows, n_rows) for rank in range(n_ranks)]
    for name in Batch._fields[:4]:
        parts = [getattr(share, name) for share in shares]
        assert torch.equal(torch.cat(parts), getattr(whole, name))


def test_segments_are_the_parts_of_a_long_sample() -> None:
    long, short = make_batches(ctx_len=48), make_batches(ctx_len=16, segments=3)
    assert (short.sample_len, short.n_samples) == (48, long.n_samples)
    assert short.samples(17, 9) == long.samples(17, 9)
    whole = long.batch(17, 9)
    parts = [short.batch(17, 9, segment) for segment in range(3)]
    for name in Batch._fields[:4]:
        joined = torch.cat([getattr(part, name) for part in parts], dim=1)
        assert torch.equal(joined, getattr(whole, name))


def test_epochs_differ_in_order_and_in_borders() -> None:
    batches = make_batches(n_tokens=161)
    assert batches.n_samples == 10
    places = range(0, 50, 10)
    borders = {frozenset(each.first_token for each in batches.samples(at, 10)) for at in places}
    assert len(borders) == 5


def test_seeds_differ() -> None:
    assert make_batches(seed=1).samples(0, 4) != make_batches(seed=2).samples(0, 4)


def test_the_order_never_changes_between_machines_and_versions() -> None:
    assert make_batches().samples(0, 4) == GOLDEN_FIRST
    assert make_batches().samples(4 * 10**9, 4) == GOLDEN_LATE


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    batches = make_batches(n_tokens=40, ctx_len=16)
    assert batches.n_samples == 2
    assert [sample.epoch for sample in batches.samples(7, 7)] == [3, 4, 4, 5, 5, 6, 6]
    assert batches.batch(7, 7).tokens.shape == (7, 16)


def test_resets_mark_the_end_of_text_tokens_that_are_read() -> None:
    split = Split(
        path=Path("train.bin"),
        tokens=np.array([5, 6, 0, 7, 0, 8, 9, 4, 0], np.uint16),
        documents=np.array([[0, 2], [3, 1], [5, 3]], np.uint64),
        n_bytes=6,
    )
    batches = Batches(split, ctx_len=4, seed=3, end_of_text=0, vocab_size=65536)
    batch = batches.batch(0, 18)
    assert batch.resets.dtype == torch.bool
    assert torch.equal(batch.resets, batch.tokens == 0)
    assert batch.resets.any()


def test_a_batch_is_the_callers_to_change() -> None:
    batches = make_batches()
    batch = batches.batch(0, 4)
    batch.tokens.zero_()
    assert torch.equal(batch.targets, batches.batch(0, 4).targets)
    assert not torch.equal(batch.tokens, batches.batch(0, 4).tokens)


def test_wide_tokens_are_read_whole() -> None:
    split = make_split(70_000, dtype="uint32")
    batches = Batches(split, ctx_len=69_999, seed=0, end_of_text=0, vocab_size=70_000)
    assert batches.batch(0, 1).tokens.max() >= 69_998


def test_counts_of_an_epoch() -> None:
    assert make_batches(n_tokens=161, ctx_len=16).n_samples == 10
    assert make_batches(n_tokens=161, ctx_len=16).epoch_tokens == 160
    assert make_batches(n_tokens=160, ctx_len=16).n_samples == 9
    assert make_batches(n_tokens=161, ctx_len=16, segments=2).n_samples == 5


def test_too_short_a_split_says_what_is_needed() -> None:
    message = (
        r"'store.train\.bin' must have at least 17 tokens for one sample of ctx_len=16, but has 16"
        "; use a smaller ctx_len or prepare more text"
    )
    with pytest.raises(DataError, match=message):
        make_batches(n_tokens=16, ctx_len=16)
    assert make_batches(n_tokens=17, ctx_len=16).n_samples == 1


def test_too_short_a_split_for_the_segments_says_what_is_needed() -> None:
    message = (
        r"must have at least 33 tokens for one sample of ctx_len=16 and segments=2, but has 32"
        "; use a smaller ctx_len or fewer segments or prepare more text"
    )
    with pytest.raises(DataError, match=message):
        make_batches(n_tokens=32, segments=2)
    assert make_batches(n_tokens=33, segments=2).n_samples == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 4), "`first_sample` must be at least 0, got -1"),
        ((0, 0), "`n_rows` must be at least 1, got 0"),
        ((0, 4, 2), "`segment` must lie in 0 to 1, got 2"),
        ((0, 4, -1), "`segment` must lie in 0 to 1, got -1"),
    ],
)
def test_impossible_places_are_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_batches(segments=2).batch(*arguments)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 1"):
        make_batches(ctx_len=0)
    with pytest.raises(ValueError, match="must be at least 1, got 16 and 0"):
        make_batches(segments=0)


def test_a_token_of_no_vocabulary_is_a_damaged_file() -> None:
    batches = Batches(make_split(1000), ctx_len=16, seed=0, end_of_text=0, vocab_size=900)
    with pytest.raises(
        DataError, match=r"must hold tokens below 900, but samples 70 to 139 have 9\d\d; .*--ver"
    ):
        batches.batch(70, 70)


def test_the_targets_that_count_are_those_of_the_mask() -> None:
    for segment in range(2):
        batch = make_batches(segments=2).batch(0, 60, segment)
        assert batch.counted is not None
        # Token t is t; the ring's end and beginning are among so many rows.
        assert torch.equal(batch.counted, batch.targets % 3 == 0)
        assert 0 in batch.targets[:, :-1]


def test_without_a_mask_nothing_is_said_of_what_counts() -> None:
    batches, masked = (
        Batches(make_split(99, has_mask=has_mask), ctx_len=8, seed=0, end_of_text=0, vocab_size=99)
        for has_mask in (False, True)
    )
    assert batches.batch(3, 4).counted is None
    assert torch.equal(batches.batch(3, 4).tokens, masked.batch(3, 4).tokens)
    assert batches.batch(3, 4).to(torch.device("meta")).counted is None
    assert masked.batch(3, 4).to(torch.device("meta")).resets.device.type == "meta"


def test_a_mask_of_other_numbers_is_a_damaged_file() -> None:
    split = make_split(99)
    assert split.mask is not None
    split.mask[:] = 2
    batches = Batches(split, ctx_len=8, seed=0, end_of_text=0, vocab_size=99)
    with pytest.raises(DataError, match=r"train\.mask' must hold zeros and ones, but has 2; the f"):
        batches.batch(0, 1)

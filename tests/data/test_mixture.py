from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data import Batches, MixedBatches, Split, source_seed, source_shares
from receptance.data.mixture import source_order
from receptance.errors import ConfigError, DataError

SHARES = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def make_batches(first_token: int, n_tokens: int, name: str, *, masked: bool = False) -> Batches:
    """Return a source whose tokens count up from `first_token`; every third one counts."""
    split = Split(
        path=Path(name, "train.bin"),
        tokens=np.arange(first_token, first_token + n_tokens, dtype=np.uint16),
        documents=np.array([[0, n_tokens - 1]], np.uint64),
        n_bytes=n_tokens - 1,
        mask=(np.arange(n_tokens) % 3 == 0).astype(np.uint8) if masked else None,
    )
    return Batches(
        split, ctx_len=4, seed=source_seed(1, name), end_of_text=0, vocab_size=2000, segments=2
    )


def make_mixture(*, masked: bool = False) -> MixedBatches:
    sources = {
        "wiki": make_batches(0, 100, "wiki"),
        "code": make_batches(1000, 50, "code", masked=masked),
    }
    return MixedBatches(sources, {"wiki": 0.7, "code": 0.3})


@given(SHARES)
def test_at_every_place_each_source_has_its_share_to_within_less_than_one_sample(
    shares: list[int],
) -> None:
    order = source_order(shares)
    counts = [0] * len(shares)
    for place, source in enumerate(order.tolist()):
        counts[source] += 1
        for count, share in zip(counts, shares, strict=True):
            assert abs(count - Fraction((place + 1) * share, sum(shares))) < 1
    assert counts == shares


def test_one_rare_source_does_not_crowd_the_others_at_a_border() -> None:
    """A rule that always takes the largest deficit is more than one sample late here."""
    shares = [40, 40, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    order = source_order(shares)
    seen = np.cumsum(order[:, None] == np.arange(len(shares)), axis=0)
    wanted = np.arange(1, len(order) + 1)[:, None] * np.array(shares) / sum(shares)
    assert np.abs(seen - wanted).max() < 1


@settings(max_examples=30)
@given(place=st.integers(0, 10**12), n_rows=st.integers(1, 20))
def test_a_place_is_found_without_those_before_it(place: int, n_rows: int) -> None:
    mixture = make_mixture()
    assert mixture.period == 10
    samples = mixture.samples(place, n_rows)
    assert [each for p in range(place, place + n_rows) for each in mixture.samples(p, 1)] == samples
    counts = mixture.count_before(place)
    assert sum(counts) == place
    for sample in samples:
        source = mixture.names.index(sample.source)
        assert sample.place == counts[source]
        counts[source] += 1
        (alone,) = mixture.sources[source].samples(sample.place, 1)
        assert sample[2:] == alone
    assert mixture.count_before(place + n_rows) == counts


@pytest.mark.parametrize("masked", [False, True])
def test_a_row_is_the_row_of_its_source_however_the_order_is_cut(masked: bool) -> None:
    mixture = make_mixture(masked=masked)
    for segment in (0, 1):
        whole = mixture.batch(33, 12, segment)
        parts = [mixture.batch(33, 5, segment), mixture.batch(38, 7, segment)]
        for field, *cut in zip(whole, *parts, strict=True):
            if field is not None:
                assert torch.equal(field, torch.cat(cut))
        assert (whole.counted is not None) == masked
        assert whole.sources is not None
        for row, sample in enumerate(mixture.samples(33, 12)):
            source = mixture.names.index(sample.source)
            assert whole.sources[row] == source
            alone = mixture.sources[source].batch(sample.place, 1, segment)
            assert torch.equal(whole.tokens[row], alone.tokens[0])
            assert torch.equal(whole.targets[row], alone.targets[0])
            assert torch.equal(whole.resets[row], alone.resets[0])
            if whole.counted is not None:
                # Without a mask of its own a source counts whole.
                own = alone.counted
                assert torch.equal(whole.counted[row], own[0]) if own is not None else True
                assert own is not None or bool(whole.counted[row].all())


def test_a_source_is_read_in_its_own_order_whatever_it_is_mixed_with() -> None:
    assert source_seed(1, "wiki") != source_seed(1, "code") != source_seed(2, "code")
    assert source_seed(1, "wiki") == 4644338950815484616
    sources = {name: make_batches(0, 100, name) for name in ("wiki", "code")}
    even = MixedBatches(sources, {"wiki": 1.0, "code": 1.0}).samples(0, 20)
    rare = MixedBatches(sources, {"wiki": 1.0, "code": 4.0}).samples(0, 50)
    first, second = ([each for each in some if each.source == "wiki"] for some in (even, rare))
    assert first == second
    assert len(first) == 10
    # Two sources of the same text are not in lockstep.
    others = [each.first_token for each in even if each.source == "code"]
    assert others != [each.first_token for each in first]


def test_weights_are_the_decimals_they_are_written_as() -> None:
    assert source_shares({"a": 0.7, "b": 0.3}) == [7, 3]
    assert source_shares({"a": 6.0, "b": 4.0}) == [3, 2]
    assert source_shares({"a": 1e-3, "b": 0.999}) == [1, 999]
    assert source_shares({"a": 5.5}) == [1]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused_with_its_source(weight: float) -> None:
    with pytest.raises(ConfigError, match="weight of the source 'b' must be positive"):
        source_shares({"a": 1.0, "b": weight})


def test_weights_that_hardly_repeat_are_refused() -> None:
    with pytest.raises(ConfigError, match="repeat after 1,000,000; round them to fewer digits"):
        source_shares({"a": 0.333333, "b": 0.666667})


def test_what_does_not_go_together_is_refused() -> None:
    wiki, code = make_mixture().sources
    with pytest.raises(ValueError, match="must have the same names"):
        MixedBatches({"wiki": wiki}, {"code": 1.0})
    shorter = Batches(wiki.split, ctx_len=3, seed=0, end_of_text=0, vocab_size=2000)
    with pytest.raises(ValueError, match="one `ctx_len` and `segments`"):
        MixedBatches({"wiki": shorter, "code": code}, {"wiki": 1.0, "code": 1.0})


def test_places_that_are_none_and_damaged_sources_are_told() -> None:
    mixture = make_mixture()
    with pytest.raises(ValueError, match="`first_sample` must be at least 0"):
        mixture.samples(-1, 2)
    with pytest.raises(ValueError, match="`n_rows` must be at least 1"):
        mixture.batch(0, 0)
    with pytest.raises(ValueError, match="`segment` must lie in 0 to 1"):
        mixture.batch(0, 1, 2)
    mixture.sources[1].vocab_size = 1000
    with pytest.raises(DataError, match=r"'code/train\.bin' must hold tokens below 1000"):
        mixture.batch(0, 10)

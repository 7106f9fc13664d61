"""What a run reads: one store or several, known by their hashes, measured by their bytes."""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from receptance.cli import run_data
from receptance.cli.run_data import (
    first_of,
    held_out_measure,
    open_stores,
    run_batches,
    tokens_per_byte,
    with_stores,
)
from receptance.data import Batches, MixedBatches, TokenStore, prepare
from receptance.errors import DataError
from receptance.evaluation import Score, held_out_documents, score_documents
from receptance.training import RunConfig, read_config
from tests.cli.two_sources import MIXED, make_two_sources
from tests.random_models import random_rwkv4


@pytest.fixture
def mixed(place: Path) -> RunConfig:
    make_two_sources(place)
    return read_config(place / "run.toml")


def test_one_store_has_its_batches_and_several_are_mixed(mixed, place):
    stores = open_stores(mixed)
    assert list(stores) == ["prose", "numbers"]
    batches = run_batches(stores, mixed)
    assert isinstance(batches, MixedBatches)
    assert batches.shares == [7, 3]
    assert [each.split for each in batches.sources] == [each.train for each in stores.values()]

    (place / "run.toml").write_text(MIXED.split("[[", maxsplit=1)[0] + 'store = "store"\n')
    config = read_config(place / "run.toml", ["training.steps=1", "data.order=authors"])
    single = run_batches(open_stores(config), config)
    assert isinstance(single, Batches)
    assert (single.seed, single.order) == (config.seed, "authors")


def test_the_hash_of_each_store_is_kept_and_checked(mixed):
    stores = open_stores(mixed)
    known = with_stores(mixed, stores)
    assert [each.store_sha256 for each in known.data.sources] == [
        each.sha256 for each in stores.values()
    ]
    assert with_stores(known, stores) == known
    swapped = {"prose": stores["numbers"], "numbers": stores["prose"]}
    message = r"the token store at 'numbers' must .* as the `store_sha256` of 'prose' says, but"
    with pytest.raises(DataError, match=message):
        with_stores(known, swapped)


@pytest.mark.usefixtures("mixed")
def test_sources_of_two_tokenizers_are_refused_by_name(place):
    prepare([place / "texts"], "train:260", place / "other")
    (place / "run.toml").write_text(MIXED.replace('"numbers"\nweight', '"other"\nweight'))
    with pytest.raises(DataError, match=r"that of 'prose', 'store', is 'bytes'.*of 'numbers', 'o"):
        open_stores(read_config(place / "run.toml"))


def test_the_tokens_of_a_byte_are_those_of_the_mixture(mixed):
    stores = open_stores(mixed)
    tokens = n_bytes = 0.0
    for share, store in zip((0.7, 0.3), stores.values(), strict=True):
        tokens += share
        n_bytes += share * store.train.n_bytes / store.train.n_tokens
    assert tokens_per_byte(stores, mixed) == pytest.approx(tokens / n_bytes, rel=1e-12)


def test_held_out_texts_are_measured_together_by_their_bytes(mixed):
    stores = open_stores(mixed)
    model = random_rwkv4(n_layer=1, n_embd=16, vocab_size=256)
    measure = held_out_measure(stores, mixed)
    assert measure is not None
    scores = [
        score_documents(model, held_out_documents(store.valid, n), end_of_text=0)
        for store, n in zip(stores.values(), (140, 60), strict=True)
    ]
    nats, n_bytes = (sum(getattr(each, name) for each in scores) for name in ("nats", "n_bytes"))
    held_out = measure(model)
    assert held_out.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-9)
    each = {name: score.bits_per_byte for name, score in zip(stores, scores, strict=True)}
    assert held_out.by_source == pytest.approx(each, rel=1e-9)


def test_held_out_texts_are_measured_in_the_arithmetic_of_the_run_where_the_model_is(
    mixed, monkeypatch
):
    given = []
    monkeypatch.setattr(run_data, "autocast", lambda *each: given.append(each) or nullcontext())
    nothing = Score(nats=1.0, n_tokens=1, n_bytes=1)
    monkeypatch.setattr(run_data, "score_documents", lambda *_, **__: nothing)
    measure = held_out_measure(open_stores(mixed), mixed)
    assert measure is not None
    measure(random_rwkv4(n_layer=1, n_embd=16, vocab_size=256).to("meta"))
    assert given == [(mixed.training.precision, "meta")]


def test_the_held_out_tokens_are_shared_out_exactly(mixed, monkeypatch):
    # In binary 0.1 / (0.7 + 0.1) of 200 is a little more than 25.
    sources = [
        replace(each, weight=weight)
        for each, weight in zip(mixed.data.sources, (0.1, 0.7), strict=True)
    ]
    config = replace(mixed, data=replace(mixed.data, sources=tuple(sources)))
    asked = []

    def held_out(split, n_tokens, **_):
        asked.append(n_tokens)
        return held_out_documents(split, n_tokens)

    monkeypatch.setattr("receptance.cli.run_data.held_out_documents", held_out)
    held_out_measure(open_stores(config), config)
    assert config.every.validation_tokens == 200
    assert asked == [25, 175]


def test_a_source_without_held_out_text_is_left_out_of_the_measure(mixed, place):
    prepare([place / "texts"], "bytes", place / "all", valid_fraction=0.0)
    stores = dict(open_stores(mixed))
    model = random_rwkv4(n_layer=1, n_embd=16, vocab_size=256)
    prose = score_documents(model, held_out_documents(first_of(stores).valid, 140), end_of_text=0)
    stores["numbers"] = TokenStore.open("all")
    measure = held_out_measure(stores, mixed)
    assert measure is not None
    assert measure(model).bits_per_byte == pytest.approx(prose.bits_per_byte, rel=1e-9)
    assert list(measure(model).by_source or ()) == ["prose"]
    assert held_out_measure({"prose": stores["numbers"]}, mixed) is None

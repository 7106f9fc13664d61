"""What a run reads, opened: its token stores, and the batches of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

from receptance.data import Batches, MixedBatches, TokenStore, source_seed, source_shares
from receptance.errors import DataError
from receptance.evaluation import Score, held_out_documents, score_documents
from receptance.training import HeldOut, RunConfig, autocast

if TYPE_CHECKING:
    from collections.abc import Callable

    from receptance.models import RWKV4

Stores = Mapping[str, TokenStore]
"""By the name of its source, which is "" for the one of a run that names none."""


def open_stores(config: RunConfig) -> Stores:
    """Return the stores of a run, in the order it names them.

    Raises:
        DataError: If there is no store, or its file is damaged; or two have other tokenizers.
    """
    stores = {name: TokenStore.open(path) for name, path in config.data.stores.items()}
    first = first_of(stores)
    for name, store in stores.items():
        if store.manifest.tokenizer_sha256 != first.manifest.tokenizer_sha256:
            raise DataError(
                "all sources must have the same tokenizer, but that of "
                f"{next(iter(stores))!r}, {str(first.path)!r}, is {_tokenizer(first)} and that of "
                f"{name!r}, {str(store.path)!r}, is {_tokenizer(store)}; prepare one of them again "
                "with the other's"
            )
    return stores


def first_of(stores: Stores) -> TokenStore:
    """Return the first store, whose tokenizer is that of all."""
    return next(iter(stores.values()))


def with_stores(config: RunConfig, stores: Stores) -> RunConfig:
    """Return the run with its stores' hashes, which a run that goes on must find again.

    Raises:
        DataError: If the run names other hashes.
    """
    data = config.data
    expected = {"": data.store_sha256} | {each.name: each.store_sha256 for each in data.sources}
    for name, store in stores.items():
        if expected[name] and expected[name] != store.sha256:
            key = f"the `store_sha256` of {name!r}" if name else "`data.store_sha256`"
            raise DataError(
                f"the token store at {str(store.path)!r} must have the sha256 {expected[name]}, "
                f"as {key} says, but it has {store.sha256}"
            )
    hashes = {name: store.sha256 for name, store in stores.items()}
    return replace(config, data=data.with_hashes(hashes))


def run_batches(stores: Stores, config: RunConfig) -> Batches | MixedBatches:
    """Return the batches of the run."""
    if not config.data.sources:
        return _batches(first_of(stores), config, config.seed)
    sources = {
        name: _batches(store, config, source_seed(config.seed, name))
        for name, store in stores.items()
    }
    return MixedBatches(sources, config.data.weights)


def tokens_per_byte(stores: Stores, config: RunConfig) -> float:
    """Return how many tokens a byte of the text that the loss is over has, in the run's mixture."""
    shares = source_shares(config.data.weights) if config.data.sources else [1]
    tokens = n_bytes = Fraction(0)
    for share, store in zip(shares, stores.values(), strict=True):
        train = store.manifest.splits.train
        # The loss is a mean over the tokens that count, so it stands for their bytes.
        counted = train.mask or train
        tokens += Fraction(share * counted.tokens, train.tokens)
        n_bytes += Fraction(share * counted.bytes, train.tokens)
    return float(tokens / n_bytes)


def held_out_measure(stores: Stores, config: RunConfig) -> "Callable[[RWKV4], HeldOut] | None":
    """Return what measures the held-out bits per byte; None where no text is held out.

    Of several sources each has its share of `every.validation_tokens`, and at least a document. The
    first figure is that of all these texts together, so a source weighs in it by its bytes.
    """
    weights = config.data.weights or {"": 1.0}
    shares = dict(zip(weights, source_shares(weights), strict=True))
    documents = {
        name: held_out_documents(
            store.valid,
            ceil(Fraction(config.every.validation_tokens * shares[name], sum(shares.values()))),
            tokenizer=store.tokenizer,
        )
        for name, store in stores.items()
        if store.valid.n_documents
    }
    if not documents:
        return None
    end_of_text = first_of(stores).end_of_text

    def measure(model: "RWKV4") -> HeldOut:
        with autocast(config.training.precision, model.ln_out.weight.device.type):
            scores = {
                name: score_documents(model, each, end_of_text=end_of_text)
                for name, each in documents.items()
            }
        whole = _sum(list(scores.values())).bits_per_byte
        if not config.data.sources:
            return HeldOut(whole)
        # Of a few documents it may be that no token counts.
        by_source = {name: each.bits_per_byte for name, each in scores.items() if each.n_bytes}
        return HeldOut(whole, by_source)

    return measure


def _sum(scores: Sequence[Score]) -> Score:
    """Return what several texts cost together."""
    return Score(
        nats=sum(each.nats for each in scores),
        n_tokens=sum(each.n_tokens for each in scores),
        n_bytes=sum(each.n_bytes for each in scores),
    )


def _batches(store: TokenStore, config: RunConfig, seed: int) -> Batches:
    return Batches(
        store.train,
        ctx_len=config.data.ctx_len,
        seed=seed,
        end_of_text=store.end_of_text,
        vocab_size=store.vocab_size,
        segments=config.data.segments,
        order=config.data.order,
    )


def _tokenizer(store: TokenStore) -> str:
    return f"{store.manifest.tokenizer!r} ({store.manifest.tokenizer_sha256[:8]}…)"

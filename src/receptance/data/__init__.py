"""Text to tokens on disk to batches.

`prepare` makes a token store from text files, `TokenStore.open` opens it, and `Batches` says which
tokens a training step sees: by arithmetic, so that a run resumes exactly. `MixedBatches` does so
for several stores, mixed in a ratio.
"""

from receptance.data.batches import Batch, Batches, Order, Sample
from receptance.data.documents import (
    Boundaries,
    NotTextError,
    Piece,
    parse_boundaries,
    read_pieces,
)
from receptance.data.manifest import Source
from receptance.data.mixture import MixedBatches, MixedSample, source_seed, source_shares
from receptance.data.order import order_key, permute
from receptance.data.prepare import prepare
from receptance.data.readers import holds_records, read_file
from receptance.data.records import RecordFormat
from receptance.data.standard_library import Corpus, standard_library
from receptance.data.store import Split, TokenStore

__all__ = [
    "Batch",
    "Batches",
    "Boundaries",
    "Corpus",
    "MixedBatches",
    "MixedSample",
    "NotTextError",
    "Order",
    "Piece",
    "RecordFormat",
    "Sample",
    "Source",
    "Split",
    "TokenStore",
    "holds_records",
    "order_key",
    "parse_boundaries",
    "permute",
    "prepare",
    "read_file",
    "read_pieces",
    "source_seed",
    "source_shares",
    "standard_library",
]

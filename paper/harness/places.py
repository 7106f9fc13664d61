"""What tokens cost by their place in a document, or in a window of one."""

import torch
from torch import Tensor

from receptance.evaluation import Document, Estimate
from receptance.evaluation.bootstrap import estimate, totals
from receptance.evaluation.reading import Reader, passages, windows
from receptance.models import RWKV4


def costs_by_place(model: RWKV4, documents: list[Document], end_of_text: int) -> Tensor:
    """Return what each token of documents of one length costs, [documents, places], in nats."""
    costs = torch.zeros(len(documents), len(documents[0].tokens), dtype=torch.float64)
    reader = Reader(model)
    with torch.no_grad():
        for passage in passages(documents, end_of_text=end_of_text, batch_size=8, chunk=256):
            rows = torch.tensor(passage.documents)[:, None].expand_as(passage.places)
            costs[rows[passage.is_counted], passage.places[passage.is_counted]] = reader.nats(
                passage
            )
    return costs


def costs_in_windows(
    reader: Reader, documents: list[Document], *, end_of_text: int, window: int
) -> Tensor:
    """Return what a token costs on average, [places], by its place in a window, in nats.

    A window begins where the one before it ends, and is read with nothing before it but the
    token that it follows.
    """
    sums, counts = torch.zeros(2, window, dtype=torch.float64)
    spans = windows(documents, window, window)
    with torch.no_grad():
        for passage in passages(
            documents, end_of_text=end_of_text, batch_size=16, chunk=window, spans=spans
        ):
            places = torch.arange(passage.tokens.shape[1]).expand_as(passage.is_counted)
            here = places[passage.is_counted]
            sums.index_add_(0, here, reader.nats(passage))
            counts.index_add_(0, here, torch.ones(len(here), dtype=torch.float64))
    return sums / counts


def mean_in(costs: Tensor, first: int, last: int) -> Estimate:
    """Return the mean of some places, counted from 1, with its interval over documents."""
    here = costs[:, first - 1 : last]
    sums = torch.stack([here.sum(1), torch.full((len(here),), here.shape[1]).double()], dim=1)
    nats, counts = totals(sums).unbind(1)
    return estimate(nats / counts)

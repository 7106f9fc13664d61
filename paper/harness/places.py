"""What tokens cost by their place in a document."""

import torch
from torch import Tensor

from receptance.evaluation import Document, Estimate
from receptance.evaluation.bootstrap import estimate, totals
from receptance.evaluation.reading import Reader, passages
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


def mean_in(costs: Tensor, first: int, last: int) -> Estimate:
    """Return the mean of some places, counted from 1, with its interval over documents."""
    here = costs[:, first - 1 : last]
    sums = torch.stack([here.sum(1), torch.full((len(here),), here.shape[1]).double()], dim=1)
    nats, counts = totals(sums).unbind(1)
    return estimate(nats / counts)

"""The losses that the authors published of their models, beside a run of the same shape.

They are single points, of the whole Pile, and no band: a run is set beside them and not judged.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from receptance.cli.run_reference import REFERENCES
from receptance.data import TokenStore
from receptance.errors import DataError
from receptance.models import RWKV4Config
from receptance.plotting import Curve
from receptance.training import RunConfig, tokens_before

VOCAB_SIZE = 50_277
FILE = REFERENCES / "published.json"


class Point(NamedTuple):
    """A published loss."""

    tokens: int
    loss: float
    """In nats a token."""
    source: str
    """Where it was published."""


def published_size(config: RunConfig) -> str | None:
    """Return the published size that a run's model has; None if it is another model."""
    model = config.model
    if (model.vocab_size or _store_ids(config)) != VOCAB_SIZE:
        return None
    for size in _entries()["losses"]:
        preset = RWKV4Config.preset(size, vocab_size=VOCAB_SIZE)
        same = (model.n_layer, model.n_embd) == (preset.n_layer, preset.n_embd)
        if model.preset == size or same:
            return size
    return None


def _store_ids(config: RunConfig) -> int | None:
    """Return how many ids the run's tokenizer has; None where no store tells."""
    try:
        return TokenStore.open(next(iter(config.data.stores.values()))).vocab_size
    except DataError:
        return None


def published_losses(size: str) -> list[Point]:
    """Return the published losses of a size, by their tokens."""
    entries = _entries()
    return [
        Point(each["tokens"], each["loss"], entries["from"][each["from"]])
        for each in entries["losses"][size]
    ]


def words_beside(name: str, size: str, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the published losses, and where the run is between them."""
    points = published_losses(size)
    last = lines[-1]
    loss = last.get("loss_average", last["loss"])
    words = [
        f"{name}, beside the published losses of RWKV-4 {size} ({_entries()['text']}):",
        *(
            f"  {point.loss:<6g} nats a token after {point.tokens / 1e9:,.0f} G tokens: "
            f"{point.source}"
            for point in points
        ),
        f"  this run: {loss:.4f} after {last['tokens'] / 1e9:,.3f} G tokens",
    ]
    expected = between(points, last["tokens"])
    if expected is not None and math.isfinite(loss):
        words.append(
            f"  the line between the published points is at {expected:.3f} there, so the run is "
            f"{abs(loss / expected - 1):.1%} {'above' if loss > expected else 'below'} it"
        )
    return [*words, "  Not judged: these are points and no band, and of the Pile alone."]


def between(points: Sequence[Point], tokens: int) -> float | None:
    """Return the loss on the line through the points over the logarithm of the tokens.

    None before the first point and after the last one.
    """
    for first, second in pairwise(points):
        if first.tokens <= tokens <= second.tokens:
            part = math.log(tokens / first.tokens) / math.log(second.tokens / first.tokens)
            return first.loss + part * (second.loss - first.loss)
    return None


def curve_beside(size: str, config: RunConfig, x: str, x_end: float) -> Curve | None:
    """Return the published losses up to `x_end`; None if all lie beyond it.

    Args:
        size: Of the models.
        config: The run, whose batches say how many steps so many tokens are.
        x: "step" or "tokens".
        x_end: The last step or token that is drawn.
    """
    places = []
    for point in published_losses(size):
        place = float(_step_of(point.tokens, config) if x == "step" else point.tokens)
        if place <= x_end:
            places.append((place, point.loss))
    if not places:
        return None
    label = f"published losses of RWKV-4 {size}, of the Pile"
    return Curve(label=label, x=[x for x, _ in places], y=[y for _, y in places], style="dots")


def _step_of(tokens: int, config: RunConfig) -> int:
    """Return after how many steps a run has read so many tokens."""
    data = config.data
    n_first = data.later_batch_step if data.later_batch_size else 0
    before = tokens_before(data, n_first)
    if tokens <= before or not n_first:
        return tokens // tokens_before(data, 1)
    return n_first + (tokens - before) // (data.later_batch_size * data.ctx_len)


def _entries() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))

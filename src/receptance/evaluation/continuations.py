"""What continuations of contexts cost: a context is read once, and each goes on from its state."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from receptance.evaluation.reading import ROWS_OF_LOGITS
from receptance.inference import LanguageModel
from receptance.models import RWKV4, RWKV4State

Tokens = tuple[int, ...]


class Scored(NamedTuple):
    """What a continuation is to the model."""

    logprob: float
    """The sum of ln p of its tokens, each given all before it."""
    is_greedy: bool
    """Whether each of them is the likeliest where it stands."""


class _Contexts(NamedTuple):
    """Contexts that were read."""

    features: Float[Tensor, "B C"]
    """What the model gives to its head after each."""
    state: RWKV4State
    """The states after them."""


def score_continuations(
    lm: LanguageModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int = 16,
    chunk: int = 512,
    forks: bool = True,
    on_scored: Callable[[int], object] | None = None,
) -> list[Scored]:
    """Return what each continuation costs after its context, read from the model's start.

    Pairs of the same context share one reading of it. Contexts are read side by side up to the end
    of the shortest, then the others up to that of the next, so that nothing is padded and each
    state is exactly that after its context. Texts of any length are read in constant memory.

    Args:
        lm: The model.
        pairs: A context of at least one token, and a continuation, which may be empty.
        batch_size: How many are read side by side.
        chunk: How many tokens of each are read at once.
        forks: Whether contexts are shared; if not, each is read anew for every continuation. It
            changes no number but in its rounding.
        on_scored: Called with the number of continuations whenever some are done.

    Raises:
        ValueError: If a context is empty.
    """
    groups: dict[tuple[int, Tokens], list[int]] = {}
    for index, (context, _) in enumerate(pairs):
        if not context:
            raise ValueError(f"a context must have at least one token, but that of {index} has 0")
        groups.setdefault((0 if forks else index, tuple(context)), []).append(index)
    order = sorted(groups, key=lambda key: (len(key[1]), key[1]))
    found: dict[int, Scored] = {}
    start = lm.start_state(None)
    assert isinstance(start, RWKV4State)
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            part = order[first : first + batch_size]
            contexts = _read(lm.model, [tokens for _, tokens in part], start, chunk)
            rows = [(row, index) for row, key in enumerate(part) for index in groups[key]]
            rows.sort(key=lambda it: len(pairs[it[1]][1]))
            for begin in range(0, len(rows), batch_size):
                several = rows[begin : begin + batch_size]
                forked = [row for row, _ in several]
                scored = _score(
                    lm.model,
                    _Contexts(contexts.features[forked], contexts.state.select(forked)),
                    [pairs[index][1] for _, index in several],
                    chunk,
                )
                if on_scored is not None:
                    on_scored(len(several))
                found |= zip((index for _, index in several), scored, strict=True)
    return [found[index] for index in range(len(pairs))]


def _read(model: RWKV4, contexts: Sequence[Tokens], start: RWKV4State, chunk: int) -> _Contexts:
    """Read contexts that are ordered by their length."""
    device = model.ln_out.weight.device
    state = start.select([0] * len(contexts))
    features: list[Tensor] = []
    states: list[RWKV4State] = []
    begin, n_ended = 0, 0
    while n_ended < len(contexts):
        left = contexts[n_ended:]
        end = min(begin + chunk, len(left[0]))
        x, state = model.features(
            torch.tensor([each[begin:end] for each in left], device=device), state
        )
        n_ending = sum(len(each) == end for each in left)
        if n_ending:
            features.append(x[:n_ending, -1])
            states.append(state.select(range(n_ending)))
            state = state.select(range(n_ending, len(left)))
            n_ended += n_ending
        begin = end
    return _Contexts(torch.cat(features), RWKV4State.concatenate(states))


def _score(
    model: RWKV4, contexts: _Contexts, continuations: Sequence[Sequence[int]], chunk: int
) -> list[Scored]:
    """Score a continuation of each of as many contexts."""
    device = contexts.features.device
    n_tokens = torch.tensor([len(each) for each in continuations])
    width = int(n_tokens.max())
    # What stands after the end of a shorter one changes nothing before it, and does not count.
    targets = torch.zeros((len(continuations), width), dtype=torch.long)
    for row, tokens in enumerate(continuations):
        targets[row, : len(tokens)] = torch.as_tensor(tokens, dtype=torch.long)
    is_counted = torch.arange(width) < n_tokens[:, None]
    logprobs = torch.zeros((len(continuations), width), dtype=torch.float64)
    is_likeliest = torch.ones((len(continuations), width), dtype=torch.bool)
    last, state = contexts.features[:, None], contexts.state
    for begin in range(0, width, chunk):
        part = slice(begin, min(begin + chunk, width))
        # The very last token predicts nothing that is asked for.
        fed = targets[:, part.start : min(part.stop, width - 1)].to(device)
        x = last
        if fed.shape[1]:
            new, state = model.features(fed, state)
            x = torch.cat([last, new], dim=1)
        counted = is_counted[:, part]
        chosen, likeliest = _predictions(
            model, x[:, : part.stop - part.start], targets[:, part], counted
        )
        logprobs[:, part][counted] = chosen
        is_likeliest[:, part][counted] = likeliest
        last = x[:, -1:]
    sums, greedy = logprobs.sum(1).tolist(), is_likeliest.all(1).tolist()
    return [Scored(*each) for each in zip(sums, greedy, strict=True)]


def _predictions(
    model: RWKV4,
    features: Float[Tensor, "B T C"],
    targets: Int64[Tensor, "B T"],
    is_counted: Bool[Tensor, "B T"],
) -> tuple[Float64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return ln p of each target that counts, and whether it is the likeliest token."""
    device = features.device
    rows, wanted = features[is_counted.to(device)], targets[is_counted].to(device)
    chosen, likeliest = [], []
    for x, each in zip(rows.split(ROWS_OF_LOGITS), wanted.split(ROWS_OF_LOGITS), strict=True):
        predicted = model.head(x).to(x.dtype).log_softmax(-1)
        chosen.append(predicted.gather(1, each[:, None])[:, 0].double())
        likeliest.append(predicted.argmax(-1) == each)
    return torch.cat(chosen).cpu(), torch.cat(likeliest).cpu()

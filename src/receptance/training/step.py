"""One step: the gradient of a batch, judged, and the change of the weights."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.optim import AdamW

from receptance.data import Batch
from receptance.models import RWKV4State
from receptance.training.config import RunConfig
from receptance.training.metrics import Mark, Stopwatch
from receptance.training.optimization import APPLY, Verdict, clip_gradient
from receptance.training.processes import ALONE, Ranks, gradient_norms, gradient_sync

# The loss of such a step is none, so not a number.
NOTHING_COUNTS = Verdict(action="skip", reason="no token of the batch counts")


class StepSeconds(NamedTuple):
    """Where the time of a step went.

    On a GPU it is the GPU's time, but for the change of the weights: it goes on while the next step
    is prepared, so that of it only the launching is counted.
    """

    forward: float
    backward: float
    """With data parallelism this includes the exchange of gradients, which it overlaps."""
    optimizer: float
    """Clipping included."""
    communication: float
    """Agreeing on the loss, for which the ranks wait for each other."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What came of a step; the same on all ranks but for `carried`."""

    loss: float
    """Cross-entropy in nats a token that counts, over the batches of all ranks; NaN for none."""
    loss_by_source: dict[str, float] | None
    """The same over the rows of each source, by its name, without those of which no token counts;
    None where the run has no sources. The mean of these by their counts is `loss`."""
    grad_norm: float
    """Of the whole gradient, before it was clipped."""
    verdict: Verdict
    """Whether the weights were changed, and why not."""
    carried: RWKV4State | None
    """The states of this rank's rows after the step, where they are wanted."""
    seconds: StepSeconds


def training_step(
    config: RunConfig,
    objective: nn.Module,
    optimizer: AdamW,
    batch: Batch,
    judge: Callable[[float, float, float], Verdict] = lambda *_: APPLY,
    *,
    step: int = 0,
    ranks: Ranks = ALONE,
    carried: RWKV4State | None = None,
) -> StepResult:
    """Compute the gradient of a batch and, unless it is judged bad, change the weights.

    The gradient is the mean over all tokens that count, of all ranks, whatever the size of a
    micro-batch: each has its share of these tokens as its weight. A step without any changes
    nothing, and is not judged.

    Args:
        config: The run.
        objective: An `Objective`, or what data parallelism made of one.
        optimizer: Over its parameters, with the learning rate of this step.
        batch: This rank's rows.
        judge: Takes the loss and the gradient's norm, first without the embedding's and then the
            embedding's own, and says what to do; the same on all ranks.
            Without one every step is applied.
        step: Steps done before this one: what is drawn at random (dropout) depends on it.
        ranks: Who takes part.
        carried: The state before each row; None for the zero state.
    """
    rank_counts = None if batch.counted is None else ranks.mean(float(batch.counted.sum()))[0]
    clock = Stopwatch(batch.tokens.device)
    added = _add_gradients(config, objective, batch, carried, step, ranks.rank, rank_counts, clock)
    started = clock.mark()
    norms = gradient_norms(objective, ranks)  # the one place where a GPU's work is waited for
    norm_s = clock.seconds(started, clock.mark())
    normed = time.perf_counter()
    mean_loss, *costs = ranks.mean(*added.sums.tolist())
    agreed = time.perf_counter()
    verdict = NOTHING_COUNTS if rank_counts == 0 else judge(mean_loss, norms.rest, norms.embedding)
    if verdict.is_applied:
        clip_gradient(objective.parameters(), norms.whole, config.optimizer.grad_clip)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(
        loss=math.nan if verdict is NOTHING_COUNTS else mean_loss,
        loss_by_source=_by_source(config, costs),
        grad_norm=norms.whole,
        verdict=verdict,
        carried=RWKV4State.concatenate(added.states) if config.data.segments > 1 else None,
        seconds=StepSeconds(
            forward=sum(clock.seconds(begin, middle) for begin, middle, _ in added.moments),
            backward=sum(clock.seconds(middle, end) for _, middle, end in added.moments),
            optimizer=time.perf_counter() - agreed + norm_s,
            communication=agreed - normed,
        ),
    )


class _Added(NamedTuple):
    """What came of a rank's micro-batches; nothing of it was read back from the device."""

    sums: Float64[Tensor, " N"]
    """The mean loss over them, then what `_source_costs` gives."""
    states: list[RWKV4State]
    """After each."""
    moments: list[tuple[Mark, Mark, Mark]]
    """Of each: when its forward began, its backward, and when that was done."""


def _add_gradients(
    config: RunConfig,
    objective: nn.Module,
    batch: Batch,
    carried: RWKV4State | None,
    step: int,
    rank: int,
    rank_counts: float | None,
    clock: Stopwatch,
) -> _Added:
    """Add up the gradients of a rank's micro-batches, each by its share of the tokens that count.

    `rank_counts` is how many of a rank's tokens count, in the mean over the ranks; None for all.
    """
    n_rows = len(batch.tokens)
    micro = config.data.micro_batch_size or n_rows
    loss_sum = torch.zeros((), dtype=torch.float64, device=batch.tokens.device)
    states, row_costs, moments = [], [], []
    # Read at once and before there is work that would have to be waited for.
    row_counts = None if batch.counted is None else batch.counted.sum(dim=1).tolist()
    for row in range(0, n_rows, micro):
        rows = slice(row, row + micro)
        tokens, targets = batch.tokens[rows], batch.targets[rows]
        resets = batch.resets[rows] if config.data.reset_at_documents else None
        before = None if carried is None else carried.select(range(row, row + len(tokens)))
        counted = None if batch.counted is None else batch.counted[rows]
        share = len(tokens) / n_rows
        if row_counts is not None and rank_counts is not None:
            share = sum(row_counts[rows]) / rank_counts if rank_counts else 0.0
        torch.manual_seed(_seed(config.seed, step, rank, row))
        begin = clock.mark()
        with gradient_sync(objective, enabled=row + micro >= n_rows):
            loss, state = objective(tokens, targets, before, resets, counted)
            middle = clock.mark()
            (loss.total * share).backward()
        loss_sum += loss.cross_entropy.double() * share
        states.append(state.detach())
        row_costs.append(loss.row_costs)
        moments.append((begin, middle, clock.mark()))
    costs = _source_costs(batch, torch.cat(row_costs), len(config.data.sources))
    return _Added(torch.cat([loss_sum[None], costs]), states, moments)


def _source_costs(
    batch: Batch, row_costs: Float64[Tensor, " B"], n_sources: int
) -> Float64[Tensor, " N"]:
    """Return what the rows of each source cost in all, then how many tokens of each count.

    Empty where the run has no sources.
    """
    if batch.sources is None:
        return row_costs.new_empty(0)
    counts = torch.full_like(row_costs, batch.tokens.shape[1])
    if batch.counted is not None:
        counts = batch.counted.sum(dim=1).to(counts)
    is_of = batch.sources[:, None] == torch.arange(n_sources, device=row_costs.device)
    both = torch.stack([row_costs, counts])[:, :, None]
    # Not by a product, which would carry what is not finite to other sources.
    return torch.where(is_of, both, 0.0).sum(dim=1).flatten()


def _by_source(config: RunConfig, costs: Sequence[float]) -> dict[str, float] | None:
    """Return the loss of each source from what `_source_costs` gave, summed over the ranks."""
    if not costs:
        return None
    sources = config.data.sources
    pairs = zip(costs[: len(sources)], costs[len(sources) :], strict=True)
    return {
        source.name: cost / count
        for source, (cost, count) in zip(sources, pairs, strict=True)
        if count
    }


def _seed(*numbers: int) -> int:
    """Return a seed that depends on all of the numbers."""
    digest = hashlib.blake2b(repr(numbers).encode(), person=b"receptance step", digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 1

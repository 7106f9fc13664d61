"""An RWKV-4 that classifies: its features, their mean over the sequence, and a head."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from receptance.atomic import atomic_file
from receptance.models import RWKV4, RWKV4Config
from receptance.training import autocast

BETAS, EPS, GRAD_CLIP = (0.9, 0.99), 1e-8, 1.0  # as the package's trainer
N_SAVES = 10


class Labelled(NamedTuple):
    """A sequence of ids, and its class."""

    ids: Sequence[int]
    label: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a classifier is trained."""

    n_steps: int
    batch_size: int
    lr: float
    seed: int = 1
    warmup_steps: int = 50


class Fitted(NamedTuple):
    """A trained classifier and its curve."""

    model: "Classifier"
    losses: list[float]
    """In nats a sequence, of each step."""


class Classifier(nn.Module):
    """RWKV-4 with a linear head on the mean of what its layers give."""

    def __init__(self, config: RWKV4Config, n_classes: int) -> None:
        super().__init__()
        self.model = RWKV4(config)
        self.model.init_weights()
        del self.model.head  # of the next token, which nobody asks for
        self.classes = nn.Linear(config.n_embd, n_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of the classes; what is beyond a sequence's length is not read."""
        features, _ = self.model.features(ids)
        is_read = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        mean = (features.float() * is_read[..., None]).sum(1) / lengths[:, None]
        return self.classes(mean)


def fit(
    folder: Path, config: RWKV4Config, n_classes: int, train: Sequence[Labelled], plan: Plan
) -> Fitted:
    """Train a classifier, or go on where a killed process was; a finished one is returned.

    Args:
        folder: Where what is trained is kept.
        config: Of the model.
        n_classes: How many classes there are.
        train: What to train on.
        plan: How.
    """
    torch.manual_seed(plan.seed)
    model = Classifier(config, n_classes)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.lr, betas=BETAS, eps=EPS, weight_decay=0.0
    )
    losses: list[float] = []
    folder.mkdir(parents=True, exist_ok=True)
    # What is gone on with has the same settings and data.
    settings = repr((config, n_classes, plan, train)).encode()
    saved = folder / f"classifier-{hashlib.sha256(settings).hexdigest()[:12]}.pt"
    if saved.is_file():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
    every = max(plan.n_steps // N_SAVES, 1)
    for step in range(len(losses), plan.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(plan, step)
        ids, lengths, labels = _batch(train, plan, step)
        with autocast("bfloat16"):
            loss = F.cross_entropy(model(ids, lengths).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        losses.append(float(loss.detach()))
        if len(losses) % every == 0 or len(losses) == plan.n_steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "losses": losses,
            }
            with atomic_file(saved) as staged:
                torch.save(state, staged)
            print(f"step {len(losses):,}/{plan.n_steps:,}: loss {losses[-1]:.4f}", flush=True)
    return Fitted(model, losses)


def accuracy(model: Classifier, test: Sequence[Labelled], batch_size: int = 32) -> float:
    """Return the share of sequences whose likeliest class is theirs."""
    n_right = 0
    by_length = sorted(test, key=lambda each: len(each.ids))
    with torch.inference_mode(), autocast("bfloat16"):
        for begin in range(0, len(by_length), batch_size):
            ids, lengths, labels = _padded(by_length[begin : begin + batch_size])
            n_right += int((model(ids, lengths).argmax(-1) == labels).sum())
    return n_right / len(test)


def interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share that was counted in n cases (Wilson)."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def _rate(plan: Plan, step: int) -> float:
    """Return the learning rate: a linear rise, then half a cosine to a fiftieth."""
    if step < plan.warmup_steps:
        return plan.lr * (step + 1) / plan.warmup_steps
    part = (step - plan.warmup_steps) / max(plan.n_steps - plan.warmup_steps, 1)
    return plan.lr * (0.02 + 0.98 * (1 + math.cos(math.pi * part)) / 2)


def _batch(train: Sequence[Labelled], plan: Plan, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batch of a step: each epoch in another order, which the seed and it decide."""
    per_epoch = len(train) // plan.batch_size
    epoch, place = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(1_000_003 * plan.seed + epoch)
    order = torch.randperm(len(train), generator=generator)
    begin = place * plan.batch_size
    return _padded([train[int(index)] for index in order[begin : begin + plan.batch_size]])


def _padded(chosen: Sequence[Labelled]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids filled up with 0, lengths and labels."""
    lengths = torch.tensor([len(each.ids) for each in chosen])
    ids = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.long)
    for row, each in zip(ids, chosen, strict=True):
        row[: len(each.ids)] = torch.tensor(each.ids)
    return ids, lengths, torch.tensor([each.label for each in chosen])

"""What the ranks of a test do: each function takes the `Ranks` and returns JSON."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from receptance.models import RWKV4, RWKV4Config, RWKV4State
from receptance.tensor_file import write_tensors
from receptance.training.loss import Loss, language_model_loss
from receptance.training.parallel import (
    Parallel,
    distribute,
    evaluation,
    gradient_norm,
    gradient_sync,
    init_weights,
    replicate,
    whole_model,
)
from receptance.training.ranks import Ranks

# What warns on a rank would only be seen when it fails.
warnings.simplefilter("error")

SMALL = RWKV4Config(n_layer=2, n_embd=16, vocab_size=41)


class LossOf(nn.Module):
    """A model with its loss."""

    def __init__(self, model: RWKV4, *, precision: str) -> None:
        super().__init__()
        self.model = model
        self.is_bfloat16 = precision == "bfloat16"

    def forward(self, tokens: Tensor, targets: Tensor) -> tuple[Loss, RWKV4State]:
        device = tokens.device.type
        with torch.autocast(
            device, dtype=torch.bfloat16, enabled=self.is_bfloat16, cache_enabled=False
        ):
            x, state = self.model.features(tokens)
            logits = nn.functional.linear(x, self.model.head.weight).to(x.dtype)
        return language_model_loss(logits, targets, auxiliary=1e-4), state


class Trained:
    """A model that trains on random tokens, the same in each step for any number of ranks."""

    def __init__(
        self,
        ranks: Ranks,
        parallel: Parallel,
        config: RWKV4Config = SMALL,
        *,
        precision: str = "float64",
        micro: int = 2,
        n_rows: int = 8,
    ) -> None:
        self.ranks = ranks
        self.n_rows = n_rows
        self.micro = micro
        with torch.device("meta"):
            self.model = RWKV4(config)
        if precision == "float64":
            self.model.to(torch.float64)
        distribute(self.model, parallel, ranks)
        init_weights(self.model, 1, ranks)
        self.optimizer = AdamW(self.model.parameters(), lr=1e-2, fused=True)
        self.objective = replicate(LossOf(self.model, precision=precision), parallel, ranks)

    def step(self, number: int, *, poisoned_rank: int = -1) -> tuple[float, float]:
        """Take one step and return the loss and the norm of the gradient over all ranks."""
        window = random_rows(number, self.n_rows, self.model.config.vocab_size)
        rows = self.ranks.rows(self.n_rows)
        window = window[rows.start : rows.stop]
        tokens, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
        loss_sum = 0.0
        for row in range(0, len(rows), self.micro):
            last = row + self.micro >= len(rows)
            share = min(self.micro, len(rows) - row) / len(rows)
            with gradient_sync(self.objective, enabled=last):
                part = slice(row, row + self.micro)
                loss, _ = self.objective(tokens[part], targets[part])
                total = loss.total * share
                if self.ranks.rank == poisoned_rank and last:
                    total = total * float("nan")
                total.backward()
            loss_sum += loss.cross_entropy.item() * share
        norm = gradient_norm(self.model.parameters(), self.ranks)
        (mean_loss,) = self.ranks.mean(loss_sum)
        if norm < float("inf"):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return mean_loss, norm

    def save(self, path: str) -> None:
        """Write the whole model's weights from the first rank."""
        whole = whole_model(self.model, self.ranks)
        if whole is not None:
            write_tensors(Path(path), whole.state_dict())


def random_rows(number: int, n_rows: int, vocab_size: int) -> Tensor:
    """Return the tokens of a step."""
    generator = torch.Generator().manual_seed(number)
    return torch.randint(vocab_size, (n_rows, 10), generator=generator)


def training(ranks: Ranks, *, parallel: Parallel, folder: str, **given: Any) -> dict[str, Any]:
    """Train some steps; the weights before and after go to `folder`."""
    trained = Trained(ranks, parallel, **given)
    trained.save(f"{folder}/{parallel}-first.safetensors")
    losses = [trained.step(number) for number in range(4)]
    with torch.no_grad(), evaluation(trained.model) as model:
        logits, _ = model(random_rows(9, 2, SMALL.vocab_size))
    losses.append(trained.step(4))
    trained.save(f"{folder}/{parallel}-last.safetensors")
    return {"losses": losses, "evaluated": logits.double().sum().item()}


def poisoned(ranks: Ranks, *, parallel: Parallel) -> list[Any]:
    """Let the gradient of the second rank be no number, and return what every rank sees."""
    trained = Trained(ranks, parallel)
    first = [each.detach().clone() for each in trained.model.parameters()]
    seen = trained.step(0, poisoned_rank=1)
    pairs = zip(first, trained.model.parameters(), strict=True)
    is_unchanged = all(bool((before == after).all()) for before, after in pairs)
    return [seen[0], str(seen[1]), is_unchanged, trained.step(1)[1]]


def told(ranks: Ranks) -> list[Any]:
    """Return what the ranks learn from each other."""
    mean = ranks.mean(0.1 * 3**ranks.rank, float("nan") if ranks.rank else 1.0)
    ranks.barrier()
    return [
        ranks.rank,
        list(ranks.rows(6)),
        *map(repr, mean),
        ranks.any(ranks.rank == 1),
        ranks.any(flag=False),
        ranks.gather_objects({"rank": ranks.rank, "text": "é" * (1 + 5 * ranks.rank)}),
        ranks.for_saving().gather_objects(ranks.rank),
    ]

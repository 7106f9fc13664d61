"""What the ranks of a test do: each function takes the `Ranks` and returns JSON."""

import errno
import hashlib
import os
import resource
import signal
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from receptance.errors import DataError
from receptance.models import RWKV4, RWKV4Config
from receptance.ops.triton import interpreting
from receptance.tensor_file import write_tensors
from receptance.training import save_finished
from receptance.training.checkpoints import Checkpoints, Progress, ShardedTensors, WholeTensors
from receptance.training.checkpoints.commit import StagedFolder
from receptance.training.optimization import Objective
from receptance.training.planning import rows_of_rank
from receptance.training.processes import Heartbeat, Ranks
from receptance.training.processes.parallel import (
    Parallel,
    distribute,
    evaluation,
    gradient_norms,
    gradient_sync,
    init_weights,
    local_part,
    replicate,
    set_weights,
    whole_model,
)
from tests.interpreter import as_on_a_gpu
from tests.one_implementation import only
from tests.random_models import random_rwkv4
from tests.training.tiny_run import hooks, stop_after, tiny_config, tiny_train

# What warns on a rank would only be seen when it fails.
warnings.simplefilter("error")

SMALL = RWKV4Config(n_layer=2, n_embd=16, vocab_size=41)


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
        is_random: bool = False,
    ) -> None:
        self.ranks = ranks
        self.n_rows = n_rows
        self.micro = micro
        with torch.device("meta"):
            self.model = RWKV4(config)
        if precision == "float64":
            self.model.to(torch.float64)
        distribute(self.model, parallel, ranks)
        if is_random:
            whole = random_rwkv4(config.n_layer, config.n_embd, config.vocab_size)
            set_weights(self.model, whole.state_dict(), ranks)
            del whole
        else:
            init_weights(self.model, 1, ranks)
        self.optimizer = AdamW(self.model.parameters(), lr=1e-2, fused=True)
        arithmetic = "bfloat16" if precision == "bfloat16" else "float32"
        objective = Objective(self.model, auxiliary=1e-4, precision=arithmetic)
        self.objective = replicate(objective, parallel, ranks)

    def step(self, number: int, *, poisoned_rank: int = -1) -> tuple[float, float]:
        """Take one step and return the loss and the norm of the gradient over all ranks."""
        window = random_rows(number, self.n_rows, self.model.config.vocab_size)
        rows = rows_of_rank(self.n_rows, self.ranks.rank, self.ranks.world_size)
        window = window[rows.start : rows.stop].to(self.ranks.device)
        tokens, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
        loss_sum = 0.0
        for row in range(0, len(rows), self.micro):
            last = row + self.micro >= len(rows)
            share = min(self.micro, len(rows) - row) / len(rows)
            with gradient_sync(self.objective, enabled=last):
                part = slice(row, row + self.micro)
                loss, _ = self.objective(tokens[part], targets[part], None, None)
                total = loss.total * share
                if self.ranks.rank == poisoned_rank and last:
                    total = total * float("nan")
                total.backward()
            loss_sum += loss.cross_entropy.item() * share
        norm = gradient_norms(self.model, self.ranks).whole
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


def by_tritons_kernels(ranks: Ranks, *, parallel: Parallel) -> dict[str, list[Any]]:
    """Return the losses and norms of two steps, by the reference and in Triton's interpreter."""
    found: dict[str, list[Any]] = {}
    shape = RWKV4Config(n_layer=2, n_embd=16, vocab_size=41)
    with interpreting(), as_on_a_gpu():
        for name in ("reference", "triton"):
            with only(name):
                trained = Trained(
                    ranks, parallel, shape, precision="float32", n_rows=2, is_random=True
                )
                found[name] = [trained.step(number) for number in range(2)]
    return found


def training(ranks: Ranks, *, parallel: Parallel, folder: str, **given: Any) -> dict[str, Any]:
    """Train some steps; the weights before and after go to `folder`."""
    trained = Trained(ranks, parallel, **given)
    trained.save(f"{folder}/{parallel}-first.safetensors")
    losses = [trained.step(number) for number in range(4)]
    with torch.no_grad(), evaluation(trained.model) as model:
        logits, _ = model(random_rows(9, 2, SMALL.vocab_size).to(ranks.device))
    losses.append(trained.step(4))
    trained.save(f"{folder}/{parallel}-last.safetensors")
    return {"losses": losses, "evaluated": logits.double().sum().item()}


def large_block(ranks: Ranks, *, parallel: Parallel) -> dict[str, Any]:
    """Take one step of one layer of the 14B model, and return what came of it."""
    config = RWKV4Config(n_layer=1, n_embd=5120, vocab_size=4096)
    given = {"precision": "float32", "micro": 1, "n_rows": 2, "is_random": True}
    trained = Trained(ranks, parallel, config, **given)
    seen = trained.step(0)
    parts = [local_part(each.detach()) for each in trained.model.parameters()]
    sums = ranks.mean(*(each.double().abs().sum().item() for each in parts))
    return {
        "seen": seen,
        "sums": [each * ranks.world_size for each in sums],
        "n_parameters": sum(each.numel() for each in parts),
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


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
        *map(repr, mean),
        ranks.any(ranks.rank == 1),
        ranks.any(flag=False),
        ranks.gather_objects({"rank": ranks.rank, "text": "é" * (1 + 5 * ranks.rank)}),
        ranks.for_saving().gather_objects(ranks.rank),
    ]


def saved(ranks: Ranks, *, parallel: Parallel, folder: str, asynchronous: bool = False) -> Any:
    """Train, save at step 2, and train on; the weights then and at the end go to `folder`."""
    trained = Trained(ranks, parallel, precision="float32", n_rows=12)
    checkpoints = checkpoints_of(trained, folder, asynchronous=asynchronous)
    checkpoints.prepare(1)
    losses = [trained.step(number) for number in range(2)]
    trained.save(f"{folder}/saved.safetensors")
    checkpoints.save(trained.model, trained.optimizer, Progress(2, 160, 16, 1.0))
    losses += [trained.step(number) for number in range(2, 4)]
    checkpoints.finish()
    reports = [(each.step, each.failure) for each in checkpoints.take_reports()]
    trained.save(f"{folder}/last.safetensors")
    return {"losses": losses, "reports": reports}


def resumed(ranks: Ranks, *, parallel: Parallel, folder: str) -> Any:
    """Go on from the newest checkpoint as `saved` did."""
    trained = Trained(ranks, parallel, precision="float32", n_rows=12)
    checkpoints = checkpoints_of(trained, folder)
    path = checkpoints.newest_good()
    assert path is not None
    loaded = checkpoints.load(path, trained.model, trained.optimizer)
    trained.save(f"{folder}/loaded.safetensors")
    losses = [trained.step(number) for number in range(loaded.progress.step, 4)]
    trained.save(f"{folder}/again.safetensors")
    return {"losses": losses, "progress": list(loaded.progress)}


def full_disk(ranks: Ranks, *, folder: str) -> Any:
    """Let the second rank's disk be full at a save, and return how that one and the next went."""
    trained = Trained(ranks, "fsdp2", precision="float32")
    checkpoints = checkpoints_of(trained, folder)
    checkpoints.prepare(1)
    trained.step(0)
    write = StagedFolder.write

    def fail(self: StagedFolder, name: str, parts: Iterable[bytes | memoryview]) -> None:
        del parts
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / name))

    if ranks.rank == 1:
        StagedFolder.write = fail
    checkpoints.save(trained.model, trained.optimizer, Progress(1, 80, 8, 1.0))
    StagedFolder.write = write
    ranks.barrier()
    left = sorted(each.name for each in Path(folder, "checkpoints").iterdir())
    trained.step(1)
    checkpoints.save(trained.model, trained.optimizer, Progress(2, 160, 16, 1.0))
    return left, [(each.step, each.failure) for each in checkpoints.take_reports()]


def lost(ranks: Ranks, *, folder: str, timeout_s: float, how: str) -> str:
    """Lose the second rank in the third step, and return what the others say then."""
    try:
        with Heartbeat(Path(folder), ranks, timeout_s=timeout_s) as beat:
            for step in range(4):
                beat(step)
                if step == 2 and ranks.rank == 1:
                    lose(how)
                ranks.mean(1.0)
    except (ConnectionError, DataError) as error:
        return str(error)
    return ""


def lose(how: str) -> None:
    """Let this process fail, die, or hang."""
    if how == "fails":
        raise DataError("the text is gone")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)


def finetuned(
    ranks: Ranks, *, base: str, folder: str, stop: int = 0, **settings: Any
) -> dict[str, Any]:
    """Fine-tune a base, up to a step or the end, and return what was seen and what came of it."""
    losses: list[float] = []
    given = hooks(losses, should_stop=stop_after(stop)) if stop else hooks(losses)
    config = tiny_config(training_init_from=base, **settings)
    run, progress = tiny_train(config, Path(folder), given, ranks=ranks)
    if progress.step == config.training.steps and ranks.is_first:
        save_finished(run.model, run.config, None, Path(folder, "model"))
    trained = [each for each in run.model.parameters() if each.requires_grad]
    digest = hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in trained))
    return {"losses": losses, "sha256": digest.hexdigest(), "step": progress.step}


def checkpoints_of(trained: Trained, folder: str, *, asynchronous: bool = False) -> Checkpoints:
    """Return the checkpoints of a run."""
    whole = WholeTensors(SMALL, None, writes=trained.ranks.is_first)
    storage = ShardedTensors(whole, trained.ranks)
    place = Path(folder, "checkpoints")
    return Checkpoints(place, storage, asynchronous=asynchronous, ranks=trained.ranks)

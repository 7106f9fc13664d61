"""The state that the sequences of a run go on from, in its checkpoints: each rank has its rows."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from receptance.errors import CheckpointError
from receptance.training.processes import Ranks

STATE_FILE = "state.safetensors"


def rank_folder(rank: int) -> str:
    """Return the name of the folder of a rank in a checkpoint."""
    return f"rank-{rank:05d}"


def carried_rows(path: Path, world_size: int, ranks: Ranks) -> dict[str, Tensor] | None:
    """Return the rows of this rank of the state that a checkpoint carries; None if it has none.

    The ranks that wrote it had equal, adjacent parts of the rows, and so have those that read it.

    Args:
        path: The checkpoint.
        world_size: How many ranks wrote it.
        ranks: Those that go on.

    Returns:
        Each tensor [L, B, ...], on the CPU.

    Raises:
        CheckpointError: If a part is missing, or the rows cannot be divided equally.
    """
    files = [path / rank_folder(rank) / STATE_FILE for rank in range(world_size)]
    if not files[0].exists():
        return None
    try:
        parts = [load_file(file) for file in files]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{str(path)!r} must hold a state of each of its {world_size} ranks: {error}"
        ) from error
    whole = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    n_rows = {each.shape[1] for each in whole.values()}
    if any(rows % ranks.world_size for rows in n_rows):
        raise CheckpointError(
            f"the sequences that {str(path)!r} goes on with, {max(n_rows)}, must divide equally "
            f"among the ranks, but there are {ranks.world_size}"
        )
    return {
        name: each.chunk(ranks.world_size, dim=1)[ranks.rank].clone()
        for name, each in whole.items()
    }

"""Whether a run that goes on reads what it would have read without a stop."""

import hashlib

from receptance.data import Batch
from receptance.errors import DataError


def batch_sha256(batch: Batch) -> str:
    """Return the sha256 of a batch's tokens, targets and resets, and of its mask and sources."""
    digest = hashlib.sha256()
    for tensor in batch:
        if tensor is not None:
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def check_next_batch(batch: Batch, expected: str) -> None:
    """Raise unless a batch is the one that a checkpoint says comes next.

    Args:
        batch: The first batch of a run that goes on.
        expected: Its sha256 as the checkpoint has it; "" if it has none, and nothing is checked.

    Raises:
        DataError: If it is another.
    """
    found = batch_sha256(batch)
    if expected and found != expected:
        raise DataError(
            f"the batch that comes next must have the sha256 {expected[:16]}…, as the checkpoint "
            f"says, but it has {found[:16]}…; the token store has changed, which `receptance data "
            "inspect STORE --verify` may confirm"
        )

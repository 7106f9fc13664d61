"""The authors' checkpoints of RWKV-4: a .pth file with the parameters by name.

The embedding may have the first norm folded in, as some programs write it; a file that has gone
through the `rwkv` package's converter is read as well.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from receptance.checkpoint.files.torch_file import map_torch_file, refuse_others
from receptance.checkpoint.files.torch_writing import write_torch_file
from receptance.checkpoint.formats.converted import STRATEGY, restored
from receptance.checkpoint.schema import check_has_ln0, shorten
from receptance.checkpoint.stored import StoredModel
from receptance.checkpoint.versions import check_is_rwkv4, layer_count
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config
from receptance.tensor_file import Entry

SUFFIX = ".pth"


def read_pth(path: Path) -> StoredModel:
    """Return what an authors' file holds; the weights are memory-mapped and not yet checked.

    Raises:
        CheckpointError: If the file is damaged, is not what `torch.save` writes, holds anything
            but tensors, or is not an RWKV-4 as its authors release it.
    """
    entries = _entries(path, read_only=True)
    # Mapped anew when it is used, so that nothing stays in memory that nobody holds.
    return StoredModel(
        *("official", path, path, _sizes(path, entries), None),
        *(partial(_entries, path, read_only=False), partial(_entries, path, read_only=True)),
    )


def write_pth(path: Path, config: RWKV4Config, tensors: Mapping[str, Entry]) -> None:
    """Write an authors' file, one tensor at a time.

    Args:
        path: The file, overwritten if it exists; stage it with `atomic_file`.
        config: The shape, which the tensors' own tell whoever reads them.
        tensors: The parameters by name.

    Raises:
        CheckpointError: If the model does without ln0, which no reader of such files knows.
        OSError: If it cannot be written.
    """
    check_has_ln0(path, config)
    write_torch_file(path, tensors)


def _entries(path: Path, *, read_only: bool) -> dict[str, Entry]:
    """Return the parameters of a file."""
    tensors, others = map_torch_file(path, read_only=read_only)
    if STRATEGY in others:
        tensors = restored(path, tensors, others)
    else:
        refuse_others(path, others)
    check_is_rwkv4(path, tensors)
    return tensors


def _sizes(path: Path, entries: Mapping[str, Entry]) -> RWKV4Config:
    """Return the sizes that the shapes and names tell."""
    if "emb.weight" not in entries or len(entries["emb.weight"].shape) != 2:
        raise CheckpointError(
            f"{str(path)!r} must be an RWKV-4, but it has no matrix 'emb.weight'; it holds "
            f"{shorten([*entries])}"
        )
    n_layer = layer_count(entries)
    vocab_size, n_embd = entries["emb.weight"].shape
    if n_layer == 0 or vocab_size == 0 or n_embd == 0:
        raise CheckpointError(
            f"{str(path)!r} must hold layers and a vocabulary, but it holds {n_layer} layers and "
            f"'emb.weight' of {[vocab_size, n_embd]}"
        )
    # Without the norm, the embedding was normalised by whoever wrote the file.
    ln0 = any(name.startswith("blocks.0.ln0.") for name in entries)
    return RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size, ln0=ln0)

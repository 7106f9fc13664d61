"""Write a model of random weights, of any published size, tensor by tensor.

    python benchmarks/random_model.py SIZE PATH [--pth] [--dtype bfloat16] [--seed 0] [--force]

PATH becomes a model folder, or with --pth an authors' file, in which all is of one dtype.

What can be measured does not depend on what weights mean, but it does on their being alike: none is
0, activations stay finite through all layers, and logits are of order 1 to 10. Vectors are what
`init_weights` sets; matrices are normal, with a deviation of one over the root of their columns.
The largest tensor is all that is in memory, so that the 14B model is made in 2 GB.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from receptance.atomic import atomic_file, atomic_folder
from receptance.checkpoint import write_files
from receptance.checkpoint.formats.official import write_pth
from receptance.models import PRESETS, RWKV4, Linear, RWKV4Config, build
from receptance.tensor_file import Entry

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LOGIT_DEVIATION = 3.0
EMBEDDING_DEVIATION = 1e-4  # a norm follows it


def main() -> None:
    """Read the arguments and write the model."""
    parser = argparse.ArgumentParser(description="Write a model of random weights.")
    parser.add_argument("size", choices=list(PRESETS))
    parser.add_argument("path", type=Path)
    parser.add_argument("--pth", action="store_true", help="write an authors' .pth file")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="replace what is at PATH")
    args = parser.parse_args()
    config = RWKV4Config.preset(args.size)
    entries = random_entries(config, DTYPES[args.dtype], args.seed)
    if args.path.exists() and not args.force:
        parser.error(f"{str(args.path)!r} is there already; --force replaces it")
    if args.pth:
        with atomic_file(args.path) as staged:
            write_pth(staged, config, in_one_dtype(entries, DTYPES[args.dtype]))
    else:
        with atomic_folder(args.path, replace=args.force) as staged:
            write_files(staged, config, entries)
    print(f"{args.path}: {config.n_parameters / 1e6:.0f}M parameters, {args.dtype}")


def random_entries(config: RWKV4Config, dtype: torch.dtype, seed: int) -> dict[str, Entry]:
    """Return the tensors of a random model, each made when it is asked for."""
    with torch.device("meta"):
        whole = build(config).state_dict()
    vectors = vectors_as_initialised(config).state_dict()
    generator = torch.Generator().manual_seed(seed)
    entries: dict[str, Entry] = {}
    for name, like in whole.items():
        shape = tuple(like.shape)
        read: Callable[[], Tensor]
        if like.ndim == 2:
            read = partial(normal, shape, deviation(name, shape[1]), dtype, generator)
        else:
            read = partial(vectors.__getitem__, name)
        entries[name] = Entry(dtype if like.ndim == 2 else torch.float32, shape, read)
    return entries


def in_one_dtype(entries: dict[str, Entry], dtype: torch.dtype) -> dict[str, Entry]:
    """Return the tensors with the vectors in the matrices' dtype, as the authors have them."""

    def read(entry: Entry) -> Tensor:
        return entry.read().to(dtype)

    return {
        name: Entry(dtype, entry.shape, partial(read, entry)) for name, entry in entries.items()
    }


def vectors_as_initialised(config: RWKV4Config) -> RWKV4:
    """Return a model with the vectors that `init_weights` sets, and matrices of one number."""
    with torch.device("meta"):
        model = build(config)
        for module in model.modules():
            if isinstance(module, Linear | nn.Embedding):
                module.weight = nn.Parameter(torch.empty(1, 1))
    model.to_empty(device="cpu")
    model.init_weights()
    return model


def deviation(name: str, n_in: int) -> float:
    """Return the standard deviation of a matrix."""
    if name == "emb.weight":
        return EMBEDDING_DEVIATION
    return (LOGIT_DEVIATION if name == "head.weight" else 1.0) * n_in**-0.5


def normal(
    shape: tuple[int, ...], deviation: float, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Return normal numbers."""
    return torch.empty(shape, dtype=dtype).normal_(0.0, deviation, generator=generator)


if __name__ == "__main__":
    main()

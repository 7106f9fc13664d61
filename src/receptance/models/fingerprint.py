"""A name for a set of weights that a saved state can carry."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


def fingerprint(
    config: Any, weights: Mapping[str, Tensor], sources: Mapping[str, bytes] | None = None
) -> str:
    """Return the sha256, in hexadecimal, of a model's shape and weights.

    Weights are rounded to bfloat16 first, so that a checkpoint has one fingerprint whether it is
    opened in float32 or in bfloat16; those of a quantized model are hashed as the bytes that they
    are. It costs one reading of the weights.

    Args:
        config: The shape.
        weights: By name.
        sources: Digests of weights as they were stored, which count for those that are float16:
            what was rounded to it cannot be rounded to the bfloat16 that it would have been.
    """
    known = {
        name: digest
        for name, digest in (sources or {}).items()
        if weights[name].dtype == torch.float16
    }
    unknown = [name for name in weights if name not in known]
    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:  # hashing frees the GIL
        digests = pool.map(weight_digest, (weights[name] for name in unknown))
        return joined_fingerprint(config, known | dict(zip(unknown, digests, strict=True)))


def joined_fingerprint(config: Any, digests: Mapping[str, bytes]) -> str:
    """Return the fingerprint of a model, of whose weights there are only the digests."""
    total = hashlib.sha256(repr((config.architecture, sorted(config.entries().items()))).encode())
    for name in sorted(digests):
        total.update(name.encode() + digests[name])
    return total.hexdigest()


def weight_digest(weight: Tensor) -> bytes:
    """Return what a weight adds to the fingerprint of its model."""
    dtype = torch.uint8 if weight.dtype == torch.uint8 else torch.bfloat16
    rounded = weight.detach().to("cpu", dtype).contiguous()
    return hashlib.sha256(rounded.view(-1).view(torch.uint8).numpy().data).digest()

"""Files of rwkv.cpp made anew from its description, to read what our own writer did not write."""

import struct
from collections.abc import Mapping

from torch import Tensor

TYPES = {"FP32": 0, "FP16": 1}


def ggml_file(
    weights: Mapping[str, Tensor],
    *,
    data_type: str = "FP32",
    version: int = 101,
    n_vocab: int | None = None,
    n_embd: int | None = None,
    n_layer: int | None = None,
) -> bytes:
    """Return the file that rwkv.cpp's script makes of an RWKV-4 in FP32 or FP16.

    Args:
        weights: The parameters by name, in the order of the file.
        data_type: Of the matrices.
        version: What the header says; None below is what is true.
        n_vocab: The same.
        n_embd: The same.
        n_layer: The same.
    """
    rows, columns = weights["emb.weight"].shape
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    header = struct.pack(
        "<6i",
        0x67676D66,
        version,
        n_vocab or rows,
        n_embd or columns,
        n_layer or len(layers),
        TYPES[data_type],
    )
    parts = [parameter(name, weight, data_type) for name, weight in weights.items()]
    return header + b"".join(parts)


def parameter(name: str, weight: Tensor, data_type: str) -> bytes:
    """Return a parameter's part of the file."""
    tensor = weight.float()
    if ".time_" in name:
        tensor = tensor.squeeze()
    if ".time_decay" in name:
        tensor = -tensor.exp()
    is_half = data_type == "FP16" and tensor.ndim > 1
    if is_half:
        tensor = tensor.half()
    head = struct.pack("<3i", tensor.ndim, len(name), TYPES["FP16" if is_half else "FP32"])
    shape = struct.pack(f"<{tensor.ndim}i", *tensor.shape[::-1])
    return head + shape + name.encode() + tensor.numpy().tobytes()

"""Models with random weights, for what only depends on their shape: speed and memory."""

import torch
from torch import Tensor

from receptance.models import RWKV4, RWKV4Config, build
from receptance.ops.quantized_linear import PANEL_ROWS
from receptance.quantization import build_quantized, format_named, quantized_tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# Random numbers are slow to make, so these are repeated. Their number is a prime, so that no two
# rows of a matrix are the same.
_N_RANDOM = 1_000_003


def random_model(config: RWKV4Config, format: str) -> RWKV4:
    """Return a model of a shape, its weights made in memory in their own format.

    Matrices have a standard deviation of one over the root of their columns and all else lies in
    [0, 1), so that all numbers stay of order 1. About half of the units of the channel mix are 0.

    Args:
        config: The shape.
        format: "float32", "bfloat16", or a name in `receptance.quantization.FORMATS`.
    """
    with torch.device("meta"):
        plain = build(config)
    model = plain if format in DTYPES else build_quantized(config, format_named(format))
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(_N_RANDOM, generator=generator)
    uniform = torch.rand(_N_RANDOM, generator=generator)
    shapes = {name: each.shape for name, each in model.state_dict().items()}
    weights = {}
    for name, like in plain.state_dict().items():
        if like.ndim != 2:
            numbers, dtype = uniform, torch.float32
        elif format in DTYPES:
            numbers, dtype = normal * like.shape[1] ** -0.5, DTYPES[format]
        else:  # some rows are rounded, and the bytes of these repeated
            rows = repeat_(torch.empty(PANEL_ROWS, like.shape[1]), normal * like.shape[1] ** -0.5)
            numbers, dtype = quantized_tensor(model, name, rows).flatten(), torch.uint8
        weights[name] = repeat_(torch.empty(shapes[name], dtype=dtype), numbers)
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)


def repeat_(tensor: Tensor, numbers: Tensor) -> Tensor:
    """Fill a tensor with numbers, again and again from the first on, and return it."""
    numbers = numbers.to(tensor.dtype)
    for part in tensor.view(-1).split(len(numbers)):
        part.copy_(numbers[: len(part)])
    return tensor

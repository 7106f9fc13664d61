"""What a model's matrices are multiplied with, measured on a text."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from receptance.models import RWKV4, Linear, build


@torch.no_grad()
def input_importance(
    model: RWKV4, batches: Iterable[Int[Tensor, "_B _T"]]
) -> dict[str, Float[Tensor, " n_in"]]:
    """Return E[x_k²] of the input of each matrix, by the matrix's name, in float32.

    Args:
        model: A plain model. Not modified.
        batches: Tokens, each batch beginning at the zero state; some ten thousand are enough.

    Raises:
        ValueError: If there are no tokens.
    """
    with torch.device("meta"):
        metered = build(model.config)
    metered.load_state_dict(model.state_dict(), assign=True)
    meters: dict[str, _Meter] = {}
    for name, layer in list(metered.named_modules()):
        if isinstance(layer, Linear):
            meters[f"{name}.weight"] = meter = _Meter(layer)
            parent, _, child = name.rpartition(".")
            setattr(metered.get_submodule(parent), child, meter)
    count = 0
    for tokens in batches:
        metered(tokens)
        count += tokens.numel()
    if count == 0:
        raise ValueError(f"`batches` must hold tokens to calibrate with, got {count}")
    return {name: (meter.total / count).float() for name, meter in meters.items()}


class _Meter(nn.Module):
    """A linear layer that sums the squares of what it is given, in float64."""

    def __init__(self, layer: Linear) -> None:
        super().__init__()
        self.layer = layer
        self.total = torch.zeros(layer.weight.shape[1], dtype=torch.float64)

    @property
    def dtype(self) -> torch.dtype:
        return self.layer.dtype

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        self.total += x.double().square().flatten(0, -2).sum(0).cpu()
        return self.layer(x)

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        return self.forward(torch.relu(k).square())

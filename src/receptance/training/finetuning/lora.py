"""LoRA: a model whose weights are frozen, and to whose matrices a product of low rank is added.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from receptance.checkpoint import Adapter, merge_adapter
from receptance.models import RWKV4, Linear, PackedForward, PackedModel, RWKV4Config
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.squared_relu import squared_relu
from receptance.quantization import QuantizedLinear, replace_matrices
from receptance.training.optimization import FinetuneConfig


class _LowRank(nn.Module):
    """A and B beside a frozen W: (alpha / rank) (x Aᵀ) Bᵀ is added to the product.

    In training, x reaches A with some of its numbers set to zero.
    """

    def _make_room(self, n_in: int, n_out: int, config: FinetuneConfig) -> None:
        """Make A and B, without values."""
        self.lora_a = nn.Parameter(torch.empty(config.rank, n_in))
        self.lora_b = nn.Parameter(torch.empty(n_out, config.rank))
        self.scale = config.alpha / config.rank
        self.dropout = config.dropout

    def _added(self, x: Tensor) -> Tensor:
        """Return what is added to the product with an x in the dtype of that."""
        x = F.dropout(x, self.dropout, self.training)
        low = F.linear(x, self.lora_a.to(x.dtype))
        return F.linear(low * self.scale, self.lora_b.to(x.dtype))


class LoRALinear(_LowRank, Linear):
    """y = x Wᵀ + (alpha / rank) (x Aᵀ) Bᵀ, of which W is frozen. A new one holds no values."""

    def __init__(self, n_in: int, n_out: int, config: FinetuneConfig) -> None:
        """Make room for W, A and B.

        Args:
            n_in: Numbers of x.
            n_out: Numbers of y.
            config: The rank, alpha and the dropout.
        """
        super().__init__(n_in, n_out)
        self.weight.requires_grad_(False)
        self._make_room(n_in, n_out, config)

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with W + (alpha / rank) B A, in the dtype of W's own."""
        return super().forward(x) + self._added(x.to(self.dtype))

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with max(k, 0)², in the same dtype."""
        return super().of_squared_relu(k) + self._added(squared_relu(k.to(self.dtype)))

    def packed_weight(self) -> Tensor:
        """Return what the decoding step wants of this layer: W with the product added."""
        weight = super().packed_weight()
        return merge_adapter(weight, self.lora_a.detach(), self.lora_b.detach(), self.scale)


class LoRAQuantizedLinear(_LowRank, QuantizedLinear):
    """The same beside a W of 4 or 8 bit weights, into which nothing can be merged."""

    def __init__(
        self, n_in: int, n_out: int, format: QuantizedFormat, config: FinetuneConfig
    ) -> None:
        """Make room for Ŵ, A and B.

        Args:
            n_in: Numbers of x.
            n_out: Numbers of y.
            format: Of Ŵ.
            config: The rank, alpha and the dropout.
        """
        super().__init__(n_in, n_out, format)
        self._make_room(n_in, n_out, config)

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with Ŵ, which rounds x, and with (alpha / rank) B A, in float32."""
        return super().forward(x) + self._added(x.float())


class LoRARWKV4(RWKV4):
    """An RWKV-4 with an adapter; only that takes gradients.

    Args:
        config: The shape.
        dropout: As for `RWKV4`.
        finetune: Which layers get one, of what rank.
        quantization: The format of the matrices; None if they are floating-point numbers.
    """

    def __init__(
        self,
        config: RWKV4Config,
        dropout: float,
        finetune: FinetuneConfig,
        quantization: QuantizedFormat | None = None,
    ) -> None:
        super().__init__(config, dropout)
        if quantization is not None:
            replace_matrices(self, quantization)
        self.requires_grad_(False)
        self.finetune = finetune
        self.quantization = quantization
        for block in self.blocks:
            for target in finetune.targets:
                block.set_submodule(target, _with_low_rank(block.get_submodule(target), finetune))

    def pack(self, *, skips_zeros: bool = False) -> PackedModel:
        """Return what decodes with these weights: see `RWKV4.pack`.

        Where the matrices are rounded it is the model's own forward, as the step merges.
        """
        if self.quantization is not None:
            return PackedForward(self, self.config.vocab_size)
        return super().pack(skips_zeros=skips_zeros)

    @torch.no_grad()
    def init_adapter(self, seed: int) -> None:
        """Set A by a seed, uniform in ±1/√n_in, and B to zero, so that nothing is added at first.

        No generator but one of its own is used.
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in self.modules():
            if isinstance(layer, _LowRank):
                bound = 1 / math.sqrt(layer.lora_a.shape[1])
                values = torch.empty(layer.lora_a.shape).uniform_(
                    -bound, bound, generator=generator
                )
                layer.lora_a.copy_(values)
                layer.lora_b.zero_()

    def adapter(self, base: str) -> Adapter:
        """Return the adapter, to be saved.

        Args:
            base: The fingerprint of the model without it.
        """
        tensors = {
            name: each.detach().to("cpu", torch.float32)
            for name, each in self.named_parameters()
            if each.requires_grad
        }
        finetune = self.finetune
        return Adapter(self.config.architecture, base, finetune.rank, finetune.alpha, tensors)


def _with_low_rank(layer: nn.Module, config: FinetuneConfig) -> nn.Module:
    """Return a layer like another, with an adapter and without values."""
    if isinstance(layer, QuantizedLinear):
        return LoRAQuantizedLinear(layer.n_in, layer.n_out, layer.format, config)
    n_out, n_in = layer.get_parameter("weight").shape
    return LoRALinear(n_in, n_out, config)

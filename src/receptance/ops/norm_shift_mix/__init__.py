"""What enters the matrices of a sublayer: LayerNorm, token shift and their mixes, in one pass."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.norm_shift_mix.native import native_obstacle, norm_shift_mix_native
from receptance.ops.norm_shift_mix.reference import norm_shift_mix_reference
from receptance.ops.norm_shift_mix.triton import norm_shift_mix_obstacle, norm_shift_mix_triton

__all__ = ["IMPLEMENTATIONS", "norm_shift_mix"]

# Fastest first.
IMPLEMENTATIONS = (
    Implementation("native", norm_shift_mix_native, native_obstacle),
    Implementation("triton", norm_shift_mix_triton, norm_shift_mix_obstacle),
    Implementation("reference", norm_shift_mix_reference, lambda *_: None),
)


def norm_shift_mix(
    x: Float[Tensor, "B T C"],
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    mixes: tuple[Float[Tensor, "... C"], ...],
    x_last: Float[Tensor, "B C"],
    *,
    eps: float = 1e-5,
    resets: Bool[Tensor, "B T"] | None = None,
    dtype: torch.dtype | None = None,
    implementation: str = "auto",
) -> tuple[tuple[Float[Tensor, "B T C"], ...], Float[Tensor, "B C"]]:
    """Blend every token, normalised, with the one before it, once for each of the mixes.

        n_t   = LayerNorm(x_t)    with the scale `weight` and the offset `bias`
        m_t   = mix n_t + (1 - mix) n_{t-1}    for each mix

    n_{-1} is `x_last`. One pass over memory forward and one backward; backward keeps x and two
    numbers a token.

    Args:
        x: The stream, in float32 or float64; so are `weight`, `bias`, the mixes and `x_last`.
        weight: LayerNorm's scale.
        bias: LayerNorm's offset.
        mixes: Shares of the present token, the paper's μ: C numbers each, [C] or [1, 1, C].
        x_last: The normalised token before the first one. Not modified.
        eps: What LayerNorm adds to the variance.
        resets: Tokens before which the state is zero: there 0 stands for n_{t-1}.
        dtype: That of the results, which is that of the matrices they enter; None is that of `x`.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        m for each of the mixes, in `dtype`, computed in the dtype of `x` and rounded once; and
        the normalised last token, in the dtype of `x`.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or a shape or dtype does
            not fit the others.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.

    Source:
        Peng et al. 2023, arXiv:2305.13048, eqs 11-15; LayerNorm: Ba et al. 2016, arXiv:1607.06450.
    """
    _check(x, weight, bias, mixes, x_last, resets)
    mixes = tuple(mix.flatten() for mix in mixes)
    args = (x, weight, bias, mixes, x_last, resets, eps, x.dtype if dtype is None else dtype)
    return choose("norm_shift_mix", IMPLEMENTATIONS, implementation, *args).run(*args)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixes: tuple[Tensor, ...],
    x_last: Tensor,
    resets: Tensor | None,
) -> None:
    """Raise a ValueError unless shapes and dtypes fit together."""
    if x.ndim != 3:
        raise ValueError(f"`x` must have the shape [B, T, C], got {list(x.shape)}")
    B, T, C = x.shape
    expected = {"weight": (weight, [C]), "bias": (bias, [C]), "x_last": (x_last, [B, C])}
    for i, mix in enumerate(mixes):
        expected[f"mixes[{i}]"] = (mix, [1] * (mix.ndim - 1) + [C])
    if resets is not None:
        expected["resets"] = (resets, [B, T])
    for name, (tensor, shape) in expected.items():
        if list(tensor.shape) != shape:
            raise ValueError(
                f"`{name}` must have the shape {shape} to go with `x` of {list(x.shape)}, "
                f"got {list(tensor.shape)}"
            )
        dtype = torch.bool if name == "resets" else x.dtype
        if tensor.dtype != dtype:
            raise ValueError(
                f"`{name}` must be {dtype} to go with `x` of {x.dtype}, got {tensor.dtype}"
            )

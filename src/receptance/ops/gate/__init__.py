"""What closes a sublayer: gates, and the sum into the stream."""

from jaxtyping import Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.gate.native import (
    gate_native,
    gate_obstacle,
    gated_add_native,
    gated_add_obstacle,
)
from receptance.ops.gate.reference import gate_reference, gated_add_reference
from receptance.ops.gate.triton import (
    gate_triton,
    gated_add_triton,
    triton_gate_obstacle,
    triton_gated_add_obstacle,
)

__all__ = ["GATED_ADD_IMPLEMENTATIONS", "GATE_IMPLEMENTATIONS", "gate", "gated_add"]

# Fastest first.
GATE_IMPLEMENTATIONS = (
    Implementation("native", gate_native, gate_obstacle),
    Implementation("triton", gate_triton, triton_gate_obstacle),
    Implementation("reference", gate_reference, lambda *_: None),
)
GATED_ADD_IMPLEMENTATIONS = (
    Implementation("native", gated_add_native, gated_add_obstacle),
    Implementation("triton", gated_add_triton, triton_gated_add_obstacle),
    Implementation("reference", gated_add_reference, lambda *_: None),
)


def gate(
    r: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], *, implementation: str = "auto"
) -> Float[Tensor, "*shape"]:
    """Return σ(r) ⊙ y: of each number the share that the receptance lets through.

    Args:
        r: Receptance.
        y: What passes the gate, in the dtype of `r`.
        implementation: A name in `GATE_IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        The product in the dtype of `y`, computed in float32 (float64 if they are) and rounded once.

    Raises:
        ValueError: If `implementation` is no name in the table, or `r` and `y` differ in shape or
            dtype.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.

    Source: Peng et al. 2023, arXiv:2305.13048, eq. 17.
    """
    _check_alike("r", r, "y", y)
    return choose("gate", GATE_IMPLEMENTATIONS, implementation, r, y).run(r, y)


def gated_add(
    x: Float[Tensor, "*shape"],
    y: Float[Tensor, "*shape"],
    r: Float[Tensor, "*shape"] | None = None,
    *,
    implementation: str = "auto",
) -> Float[Tensor, "*shape"]:
    """Return x + σ(r) ⊙ y, or x + y where there is no gate: what a sublayer adds to the stream.

    Args:
        x: The stream, in float32, or float64 if `y` is.
        y: What is added, in the dtype of the matrix that it comes from.
        r: Receptance, in the dtype of `y`.
        implementation: A name in `GATED_ADD_IMPLEMENTATIONS`, or "auto" for the fastest that can
            run.

    Returns:
        The sum in the dtype of `x`, in which all is computed.

    Raises:
        ValueError: If `implementation` is no name in the table, or shapes or dtypes do not fit.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.

    Source: Peng et al. 2023, arXiv:2305.13048, eq. 18 and figure 2.
    """
    if y.shape != x.shape:
        raise ValueError(f"`y` must have the shape of `x`, {list(x.shape)}, got {list(y.shape)}")
    if r is not None:
        _check_alike("y", y, "r", r)
    args = (x, y, r)
    return choose("gated_add", GATED_ADD_IMPLEMENTATIONS, implementation, *args).run(*args)


def _check_alike(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise a ValueError unless two tensors have the same shape and dtype."""
    for what, expected, found in (
        ("shape", list(tensor.shape), list(other.shape)),
        ("dtype", tensor.dtype, other.dtype),
    ):
        if found != expected:
            raise ValueError(
                f"`{other_name}` must have the {what} of `{name}`, {expected}, got {found}"
            )

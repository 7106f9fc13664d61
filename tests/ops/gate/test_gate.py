"""What the gates promise whichever implementation runs: dtypes, checks, the choice."""

import pytest
import torch

from receptance.errors import ImplementationUnavailableError
from receptance.ops.gate import GATE_IMPLEMENTATIONS, GATED_ADD_IMPLEMENTATIONS, gate, gated_add
from receptance.ops.native import library_obstacle


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_implementations_are_fastest_first():
    for table in (GATE_IMPLEMENTATIONS, GATED_ADD_IMPLEMENTATIONS):
        assert [each.name for each in table] == ["native", "triton", "reference"]


@pytest.mark.parametrize("implementation", ["native", "reference"])
def test_low_precision_gives_the_float32_result_rounded(implementation):
    if implementation == "native" and library_obstacle() is not None:
        pytest.skip(str(library_obstacle()))
    x, r, y = normal(2, 9), normal(2, 9, seed=1).bfloat16(), normal(2, 9, seed=2).bfloat16()
    product = gate(r, y, implementation=implementation)
    exact = gate(r.float(), y.float(), implementation=implementation)
    assert torch.equal(product, exact.bfloat16())
    for each in (r, None):
        total = gated_add(x, y, each, implementation=implementation)
        wide = None if each is None else each.float()
        assert total.dtype == torch.float32
        assert torch.equal(total, gated_add(x, y.float(), wide, implementation=implementation))


def test_what_cannot_run_says_why_and_auto_takes_another():
    half = normal(2, 3).half()
    with pytest.raises(ImplementationUnavailableError) as caught:
        gate(half, half, implementation="native")
    assert str(caught.value) == (
        "no implementation of gate can run these tensors (native: it serves float32, float32 with "
        "bfloat16, and float64, and these tensors are torch.float32 with torch.float16)"
    )
    assert gate(half, half).dtype == torch.float16
    with pytest.raises(ImplementationUnavailableError, match="gated_add"):
        gated_add(half.double(), half.float(), implementation="native")
    assert gated_add(half.double(), half.float()).dtype == torch.float64


def test_dtypes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="dtype") as caught:
        gate(normal(3), normal(3).double())
    assert str(caught.value) == ("`y` must have the dtype of `r`, torch.float32, got torch.float64")
    with pytest.raises(ValueError, match=r"^`r` must have the dtype of `y`, torch\.bfloat16, got"):
        gated_add(normal(3), normal(3).bfloat16(), normal(3))


@pytest.mark.unhooked
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shape") as caught:
        gate(normal(3), normal(4))
    assert str(caught.value) == "`y` must have the shape of `r`, [3], got [4]"
    with pytest.raises(ValueError, match=r"^`y` must have the shape of `x`, \[3\], got \[4\]$"):
        gated_add(normal(3), normal(4))
    with pytest.raises(ValueError, match=r"^`r` must have the shape of `y`, \[3\], got \[4\]$"):
        gated_add(normal(3), normal(3), normal(4))


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    for call in (gate, gated_add):
        with pytest.raises(ValueError, match=r"one of \['auto', 'native', 'triton', 'reference'\]"):
            call(normal(3), normal(3), implementation="fast")

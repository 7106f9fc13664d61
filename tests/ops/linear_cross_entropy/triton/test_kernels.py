"""The kernel that turns logits into their gradient against the plain one, between guards."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.linear_cross_entropy import triton as ours
from receptance.ops.linear_cross_entropy.chunked import plain_row_gradient
from receptance.ops.linear_cross_entropy.triton import row_gradient
from tests.guarded_memory import GUARD
from tests.tolerances import FLOAT32, rounded_once

pytestmark = pytest.mark.usefixtures("_guarded_memory")

NAN = float("nan")


def case(n: int, V: int, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return logits between guards of NaN, and targets."""
    generator = torch.Generator().manual_seed(V)
    logits = 3 * torch.randn(n, V, generator=generator)
    targets = torch.randint(V, (n,), generator=generator)
    return guarded(logits.to(device, dtype)), targets.to(device)


def guarded(logits: Tensor) -> Tensor:
    memory = logits.new_full((logits.numel() + 2 * GUARD,), NAN)
    inside = memory[GUARD : GUARD + logits.numel()].view(logits.shape)
    return inside.copy_(logits)


def guards_of(logits: Tensor) -> Tensor:
    memory = logits.new_empty(0).set_(logits.untyped_storage())
    return torch.cat([memory[:GUARD], memory[GUARD + logits.numel() :]])


def expected(
    logits: Tensor, targets: Tensor, auxiliary: float = 0.3
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the costs, the largest logits and their gradient, computed in float64."""
    wide = logits.double()
    cost, largest = plain_row_gradient(wide, targets, 0.25, auxiliary, True)
    return cost, largest, wide


@pytest.mark.parametrize("V", [1, 2, 15, 16, 17, 63, 64, 65, 257])
@pytest.mark.parametrize("of_a_row", [16, 4096])
def test_costs_and_gradients_are_the_plain_kernels(of_a_row, V, triton_device, monkeypatch):
    monkeypatch.setattr(ours, "MOST_OF_A_ROW", of_a_row)
    logits, targets = case(3, V, triton_device)
    cost, largest, grad = expected(logits, targets)
    for wants_gradient in (False, True):
        before = logits.clone()
        found, found_largest = row_gradient(logits, targets, 0.25, 0.3, wants_gradient)
        assert_close(found.double(), cost, **FLOAT32)
        assert torch.equal(found_largest.double(), largest)
        if not wants_gradient:
            assert torch.equal(logits, before)
    assert_close(logits.double(), grad, **FLOAT32)
    assert guards_of(logits).isnan().all()


@pytest.mark.parametrize("of_a_row", [16, 4096])
def test_what_lies_between_rows_does_not_count(of_a_row, triton_device, monkeypatch):
    """And may be anything: only what is behind the last of the wide rows stays as it is."""
    monkeypatch.setattr(ours, "MOST_OF_A_ROW", of_a_row)
    logits, targets = case(3, 37, triton_device)
    cost, largest, grad = expected(logits, targets)
    wide = guarded(torch.full((3, 48), NAN, device=triton_device))
    wide[:, :37] = logits
    found, found_largest = row_gradient(wide[:, :37], targets, 0.25, 0.3, True)
    assert_close(found.double(), cost, **FLOAT32)
    assert torch.equal(found_largest.double(), largest)
    assert_close(wide[:, :37].double(), grad, **FLOAT32)
    assert guards_of(wide).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_low_precision_are_rounded_once(dtype, triton_device):
    logits, targets = case(4, 100, triton_device, dtype)
    cost, largest, grad = expected(logits, targets)
    found, found_largest = row_gradient(logits, targets, 0.25, 0.3, True)
    assert_close(found.double(), cost, **FLOAT32)
    assert_close(found_largest.double(), largest, **FLOAT32)
    # A part of a gradient may cancel; below float16's normal numbers the unit stays 2^-24.
    assert_close(logits.double(), grad, rtol=rounded_once(dtype, triton_device), atol=1e-6)


def test_extreme_logits_are_right(triton_device, monkeypatch):
    monkeypatch.setattr(ours, "MOST_OF_A_ROW", 16)
    rows = torch.full((5, 40), -1e30)
    rows[0, 33] = 1e30
    rows[1, :20] = -float("inf")
    rows[2] = -float("inf")
    rows[2, 37] = 5.0
    rows[3, 3] = rows[3, 30] = 80.0  # of equal ones the gradient of the maximum is the first's
    rows[4] = 3e4
    logits = guarded(rows.to(triton_device))
    targets = torch.tensor([33, 20, 37, 30, 39], device=triton_device)
    cost, largest, grad = expected(logits, targets, auxiliary=1e-4)
    found, found_largest = row_gradient(logits, targets, 0.25, 1e-4, True)
    assert_close(found.double(), cost, **FLOAT32)
    assert_close(found_largest.double(), largest, **FLOAT32)
    assert_close(logits.double(), grad, **FLOAT32)


# NumPy's, by which the interpreter computes.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_what_is_not_finite_shows_in_the_cost(value, triton_device):
    logits, targets = case(3, 20, triton_device)
    logits[1, 7] = value
    cost, _ = row_gradient(logits, targets, 0.25, 0.1, True)
    assert cost.isnan().tolist() == [False, True, False]


def test_a_target_that_does_not_exist_costs_nan_and_reads_nothing(triton_device):
    logits, _ = case(3, 20, triton_device)
    targets = torch.tensor([20, -1, 19], device=triton_device)
    cost, _ = row_gradient(logits, targets, 0.25, 0.1, False)
    assert cost.isnan().tolist() == [True, True, False]

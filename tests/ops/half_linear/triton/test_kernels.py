"""The kernel of `half_square` against the reference, between guards."""

import pytest
import torch
from torch.testing import assert_close

from receptance.ops.half_linear.reference import half_square_reference
from receptance.ops.half_linear.triton import half_square_triton
from tests.compiled_kernels import TARGETS, Call, assert_compiles

pytestmark = pytest.mark.usefixtures("_guarded_memory")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 257, 1023, 1024, 1025, 2500])
def test_the_square_is_rounded_once(n, dtype, triton_device):
    generator = torch.Generator().manual_seed(n)
    k = (1000 * torch.randn(n, generator=generator)).to(dtype)
    assert torch.equal(half_square_triton(k.to(triton_device)).cpu(), half_square_reference(k))


def test_not_a_number_stays_one_and_strides_are_read_right(triton_device):
    k = torch.tensor([[float("nan"), 1.0], [-float("inf"), 2.0], [float("inf"), 4000.0]])
    found = half_square_triton(k.t().to(triton_device))
    assert_close(found.cpu(), half_square_reference(k.t()), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("target", TARGETS)
def test_it_compiles(target, tmp_path):
    types = {"k_ptr": "*fp32", "out_ptr": "*fp16", "n": "i32"}
    call = Call(
        "receptance.ops.half_linear.triton.kernels.half_square",
        types,
        {"ROOT": 0.0625, "BLOCK": 1024},
    )
    assert_compiles([call], target, tmp_path)

"""What PyTorch is told of the gates' ops, the native ones and Triton's."""

import pytest
import torch

from receptance.ops.gate.native import gate_native, gated_add_native
from receptance.ops.gate.triton import gate_triton, gated_add_triton
from receptance.ops.native import library_obstacle
from tests.ops.gate.test_native import DTYPES, normal, wide
from tests.ops.gate.triton.test_triton import DTYPES as TRITON_DTYPES

native = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


@native
def test_a_second_derivative_of_the_native_ops_is_refused():
    r, y = normal(3, 0).requires_grad_(), normal(3, 1)
    for name, product in (("gate", gate_native(r, y)), ("gated_add", gated_add_native(y, y, r))):
        (grad,) = torch.autograd.grad(product.square().sum(), r, create_graph=True)
        with pytest.raises(NotImplementedError, match=f"native {name} has no second derivative"):
            grad.sum().backward()


def test_a_second_derivative_of_tritons_ops_is_refused(triton_device):
    r = normal(3, 0, torch.float32).to(triton_device).requires_grad_()
    y = normal(3, 1, torch.float32).to(triton_device)
    for product in (gate_triton(r, y), gated_add_triton(y, y, r)):
        (grad,) = torch.autograd.grad(product.square().sum(), r, create_graph=True)
        with pytest.raises(NotImplementedError, match="the Triton gate has no second derivative"):
            grad.sum().backward()


@native
@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorch_finds_nothing_wrong_with_the_native_ops(dtype):
    x, grad = normal(5, 0, wide(dtype)), normal(5, 1, wide(dtype))
    r, y = normal(5, 2, dtype), normal(5, 3, dtype)
    ops = torch.ops.receptance
    torch.library.opcheck(ops.gate_backward.default, (r, y, grad.to(dtype)))
    torch.library.opcheck(ops.gated_add_backward.default, (y, r, grad))
    for each in (x, r, y):
        each.requires_grad_()
    torch.library.opcheck(ops.gate.default, (r, y))
    torch.library.opcheck(ops.gated_add.default, (x, y, r))
    torch.library.opcheck(ops.gated_add.default, (x, y, None))


@pytest.mark.parametrize("dtype", TRITON_DTYPES)
def test_pytorch_finds_nothing_wrong_with_tritons_ops(dtype, triton_device):
    x = normal(5, 0, torch.float32).to(triton_device)
    r, y, grad = (normal(5, i, dtype).to(triton_device) for i in range(1, 4))
    ops = torch.ops.receptance
    torch.library.opcheck(ops.gate_backward_triton.default, (r, y, grad))
    torch.library.opcheck(ops.gate_backward_triton.default, (r, y, x))
    for each in (x, r, y):
        each.requires_grad_()
    torch.library.opcheck(ops.gate_triton.default, (r, y))
    torch.library.opcheck(ops.gated_add_triton.default, (x, y, r))
    torch.library.opcheck(ops.gated_add_triton.default, (x, y, None))

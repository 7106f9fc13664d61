"""What PyTorch is told of the squared ReLU's ops, the native ones and Triton's."""

import pytest
import torch

from receptance.ops.native import library_obstacle
from receptance.ops.squared_relu.gradients import gradients
from receptance.ops.squared_relu.native import squared_relu_linear_native
from receptance.ops.squared_relu.triton import squared_relu_linear_triton, squared_relu_triton
from tests.ops.squared_relu.test_native import DTYPES, normal
from tests.ops.squared_relu.triton.test_triton import DTYPES as TRITON_DTYPES

native = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


def test_what_is_not_wanted_is_neither_squared_nor_differentiated():
    k, weight, grad = normal(2, 5), normal(4, 5), normal(2, 4)
    called = []

    def square(k: torch.Tensor) -> torch.Tensor:
        called.append("square")
        return torch.relu(k).square()

    def differentiate_(grad: torch.Tensor, k: torch.Tensor) -> None:
        called.append("differentiate")
        grad *= 2 * torch.relu(k)

    for wants, expected in (
        ((True, False), ["differentiate"]),
        ((False, True), ["square"]),
        ((False, False), []),
    ):
        called.clear()
        found = gradients(grad, k, weight, wants, square, differentiate_)
        assert called == expected
        assert [each.numel() > 0 for each in found] == list(wants)


@native
def test_a_second_derivative_of_the_native_op_is_refused():
    k, weight = normal(2, 5).requires_grad_(), normal(4, 5, seed=1)
    (grad,) = torch.autograd.grad(
        squared_relu_linear_native(k, weight).square().sum(), k, create_graph=True
    )
    message = "the native squared_relu_linear has no second derivative"
    with pytest.raises(NotImplementedError, match=message):
        grad.sum().backward()


def test_a_second_derivative_of_tritons_ops_is_refused(triton_device):
    k = normal(2, 5, dtype=torch.float32).to(triton_device).requires_grad_()
    weight = normal(4, 5, seed=1, dtype=torch.float32).to(triton_device)
    for name, y in (
        ("squared_relu", squared_relu_triton(k)),
        ("squared_relu_linear", squared_relu_linear_triton(k, weight)),
    ):
        (grad,) = torch.autograd.grad(y.square().sum(), k, create_graph=True)
        with pytest.raises(NotImplementedError, match=f"Triton {name} has no second derivative"):
            grad.sum().backward()


@native
@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorch_finds_nothing_wrong_with_the_native_ops(dtype):
    k, weight, grad = normal(2, 3, 5, dtype=dtype), normal(4, 5, dtype=dtype), normal(2, 3, 4)
    ops = torch.ops.receptance
    torch.library.opcheck(ops.squared_relu.default, (k,))
    torch.library.opcheck(ops.squared_relu_backward_.default, (k.clone(), k))
    for wants in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            ops.squared_relu_linear_backward.default, (grad.to(dtype), k, weight, *wants)
        )
    leaves = (k.requires_grad_(), weight.requires_grad_())
    torch.library.opcheck(ops.squared_relu_linear.default, leaves)


@pytest.mark.parametrize("dtype", TRITON_DTYPES)
def test_pytorch_finds_nothing_wrong_with_tritons_ops(dtype, triton_device):
    k, weight = (normal(4, 5, seed=i, dtype=dtype).to(triton_device) for i in range(2))
    grad = normal(4, 4, seed=2, dtype=dtype).to(triton_device)
    ops = torch.ops.receptance
    torch.library.opcheck(ops.squared_relu_backward_triton.default, (weight, k))
    for wants in ((True, True), (False, True), (True, False)):
        backward = ops.squared_relu_linear_backward_triton.default
        torch.library.opcheck(backward, (grad, k, weight, *wants))
    k.requires_grad_()
    weight.requires_grad_()
    torch.library.opcheck(ops.squared_relu_triton.default, (k,))
    torch.library.opcheck(ops.squared_relu_linear_triton.default, (k, weight))

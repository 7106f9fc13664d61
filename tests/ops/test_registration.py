"""What PyTorch is told of an op, by an op made for it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.registration import register_backward, register_forward


@torch.library.custom_op("receptance::cube_of_a_test", mutates_args=())
def _cube(x: Tensor) -> Tensor:
    return x**3


@torch.library.custom_op("receptance::cube_of_a_test_backward", mutates_args=())
def _cube_backward(grad: Tensor, x: Tensor) -> Tensor:
    return 3 * x**2 * grad


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> Tensor:
    return torch.ops.receptance.cube_of_a_test_backward(grad, *ctx.saved_tensors)


register_forward("cube_of_a_test", torch.empty_like, _save, _differentiate)
register_backward(
    "cube_of_a_test_backward", lambda grad, _: torch.empty_like(grad), of="careful cube"
)


def test_pytorch_knows_what_both_ops_return():
    x = torch.ones(2, 3, device="meta")
    assert torch.ops.receptance.cube_of_a_test(x).shape == (2, 3)
    assert torch.ops.receptance.cube_of_a_test_backward(x, x).is_meta


def test_the_gradient_is_the_one_that_was_given():
    x = torch.tensor([-1.0, 0.5], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(torch.ops.receptance.cube_of_a_test(x).sum(), x)
    assert_close(grad, 3 * x.detach() ** 2)


def test_a_refused_derivative_says_what_to_do():
    x = torch.ones(2, requires_grad=True)
    y = torch.ops.receptance.cube_of_a_test(x)
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError) as caught:
        grad.sum().backward()
    assert str(caught.value) == (
        "the careful cube has no second derivative; pass implementation='reference'"
    )


def test_pytorch_finds_nothing_wrong_with_the_ops():
    x = torch.ones(2, requires_grad=True)
    torch.library.opcheck(torch.ops.receptance.cube_of_a_test.default, (x,))
    backward = torch.ops.receptance.cube_of_a_test_backward.default
    torch.library.opcheck(backward, (torch.ones(2), torch.ones(2)))

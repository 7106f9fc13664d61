"""What PyTorch is told of the ops of `norm_shift_mix`, the native ones and Triton's."""

import pytest
import torch

from receptance.ops.native import library_obstacle
from receptance.ops.norm_shift_mix.native import norm_shift_mix_native
from receptance.ops.norm_shift_mix.triton import norm_shift_mix_triton
from tests.ops.norm_shift_mix.test_native import EPS, make_case, op_arguments
from tests.ops.norm_shift_mix.triton.test_triton import arguments, moved

native = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


@native
def test_a_second_derivative_of_the_native_op_is_refused():
    case = make_case(1, 3, 4)
    x = case["x"].requires_grad_()
    args = (x, case["weight"], case["bias"], case["mixes"], case["x_last"], None, EPS, x.dtype)
    mixed, _ = norm_shift_mix_native(*args)
    (grad,) = torch.autograd.grad(mixed[0].square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="native norm_shift_mix has no second derivative"):
        grad.sum().backward()


def test_a_second_derivative_of_tritons_op_is_refused(triton_device):
    args = moved(arguments(1, 2, 4), triton_device)
    x = args[0].requires_grad_()
    mixed, _ = norm_shift_mix_triton(*args, None, 1e-5, torch.float32)
    (grad,) = torch.autograd.grad(mixed[0].square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="Triton norm_shift_mix has no second"):
        grad.sum().backward()


@native
@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_pytorch_finds_nothing_wrong_with_the_native_ops(dtype, with_resets):
    case = make_case(2, 3, 5, with_resets=with_resets)
    arguments = op_arguments(case, dtype)
    _, _, mean, rstd = torch.ops.receptance.norm_shift_mix(**arguments)
    backward = (
        *list(arguments.values())[:6],
        mean,
        rstd,
        [grad.to(dtype) for grad in case["grad_mixed"]],
        case["grad_last"].to(mean.dtype),
        0,
    )
    torch.library.opcheck(torch.ops.receptance.norm_shift_mix_backward.default, backward)
    for name in ("x", "weight", "bias", "x_last"):
        arguments[name].requires_grad_()
    for mix in arguments["mixes"]:
        mix.requires_grad_()
    torch.library.opcheck(torch.ops.receptance.norm_shift_mix.default, tuple(arguments.values()))


@pytest.mark.parametrize("n_mixes", [2, 3])
def test_pytorch_finds_nothing_wrong_with_tritons_ops(n_mixes, triton_device):
    x, weight, bias, mixes, x_last = moved(arguments(1, 2, 4, n_mixes), triton_device)
    flags = torch.tensor([[False, True]], device=triton_device)
    mean, rstd, grad_last = x.mean(dim=-1), 1 / x.std(dim=-1), x_last.clone()
    grads = [x.bfloat16() for _ in mixes]
    torch.library.opcheck(
        torch.ops.receptance.norm_shift_mix_backward_triton.default,
        (x, weight, bias, list(mixes), x_last, flags, mean, rstd, grads, grad_last),
    )
    leaves = [each.requires_grad_() for each in (x, weight, bias, x_last, *mixes)]
    torch.library.opcheck(
        torch.ops.receptance.norm_shift_mix_triton.default,
        (*leaves[:3], list(mixes), x_last, flags, 1e-5, torch.bfloat16),
    )

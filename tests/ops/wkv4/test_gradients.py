"""What PyTorch is told of `wkv4`'s ops, the native ones and Triton's."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.wkv4 import WKV4State
from receptance.ops.wkv4.reference import wkv4_reference
from tests.ops.wkv4.test_native import FORMS, NAMES, Case, make_case
from tests.tolerances import FLOAT32

native = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


def backward_arguments(case: Case, forward: str = "wkv4") -> tuple[Any, ...]:
    """Return what the backward op takes, with the borders that forward left."""
    *_, borders = getattr(torch.ops.receptance, forward)(*case[:8])
    gradients = (case.grad_y, case.grad_num, case.grad_den)
    return (*case[:4], case.resets, borders, *gradients)


def opcheck(forward: str, case: Case) -> None:
    ops = torch.ops.receptance
    leaves = [getattr(case, name).clone().requires_grad_() for name in NAMES]
    torch.library.opcheck(getattr(ops, forward).default, (*leaves, case.log_scale, case.resets))
    backward = getattr(ops, f"{forward}_backward").default
    torch.library.opcheck(backward, backward_arguments(case, forward))


def assert_refuses_a_second_derivative(op: str, device: str) -> None:
    case = make_case(1, 3, 2).to(torch.float32)
    k = case.k.to(device).requires_grad_()
    moved = [each.to(device) for each in (case.log_w, case.u, k, case.v)]
    state = [each.to(device) for each in (case.num, case.den, case.log_scale)]
    y, *_ = getattr(torch.ops.receptance, op)(*moved, *state, None)
    (grad,) = torch.autograd.grad(y.square().sum(), k, create_graph=True)
    name = "Triton" if "triton" in op else "native"
    with pytest.raises(NotImplementedError, match=f"the {name} wkv4 has no second derivative"):
        grad.sum().backward()


def gradients_of(y: Tensor, state: WKV4State, leaves: list[Tensor]) -> list[tuple[Tensor, ...]]:
    """Return the gradients of each result alone, where the others' are not there."""
    unit = state.log_scale.detach().exp()  # without it, num and den have no fixed meaning
    losses = [each.square().sum() for each in (y, state.num * unit, state.den * unit)]
    return [
        torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True)
        for loss in losses
    ]


def assert_results_are_differentiated_alone(op: str, device: str) -> None:
    case = make_case(1, 3, 2).to(torch.float32)
    leaves = [getattr(case, name).to(device).requires_grad_() for name in NAMES]
    log_w, u, k, v, *sums = leaves
    log_scale = case.log_scale.to(device)
    y, *after, _ = getattr(torch.ops.receptance, op)(*leaves, log_scale, None)
    state = WKV4State(sums[0], sums[1], log_scale)
    expected = gradients_of(*wkv4_reference(log_w, u, k, v, state, None), leaves)
    assert_close(gradients_of(y, WKV4State(*after), leaves), expected, **FLOAT32)


@native
@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_pytorch_finds_nothing_wrong_with_the_native_ops(dtype, with_resets):
    opcheck("wkv4", make_case(2, 33, 5, with_resets=with_resets).to(dtype))


@pytest.mark.parametrize("with_resets", [False, True])
def test_pytorch_finds_nothing_wrong_with_tritons_ops(with_resets, triton_device):
    case = make_case(1, 33, 2, with_resets=with_resets).to(torch.float32)
    case = Case._make(None if each is None else each.to(triton_device) for each in case)
    opcheck("wkv4_triton", case)


@native
def test_a_second_derivative_of_the_native_op_is_refused():
    assert_refuses_a_second_derivative("wkv4", "cpu")


def test_a_second_derivative_of_tritons_op_is_refused(triton_device):
    assert_refuses_a_second_derivative("wkv4_triton", triton_device)


@native
def test_each_result_of_the_native_op_is_differentiated_alone():
    assert_results_are_differentiated_alone("wkv4", "cpu")


def test_each_result_of_tritons_op_is_differentiated_alone(triton_device):
    assert_results_are_differentiated_alone("wkv4_triton", triton_device)


class Calls(TorchDispatchMode):
    """The arguments of each call of an op, by the op's name."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.arguments[func.name()] = args
        return func(*args, **(kwargs or {}))


@native
def test_what_was_chosen_forward_is_chosen_backward():
    case = make_case(1, 3, 2)
    chosen = (FORMS["parallel"], instruction_sets()["portable"])
    with Calls() as calls:
        y, *_ = torch.ops.receptance.wkv4(case.log_w, case.u.requires_grad_(), *case[2:8], *chosen)
        y.sum().backward()
    assert calls.arguments["receptance::wkv4_backward"][-2:] == chosen

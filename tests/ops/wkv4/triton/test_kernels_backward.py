"""The backward kernels of `wkv4` in Triton against the reference's gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from receptance.ops.wkv4 import WKV4State
from receptance.ops.wkv4.reference import wkv4_reference
from receptance.ops.wkv4.triton import TILE
from tests.ops.wkv4.test_native import (
    SINGLE,
    SINGLE_EACH,
    Case,
    assert_all_close,
    make_case,
    relative_error,
    results,
)
from tests.ops.wkv4.triton.test_kernels import FORMS, HALF_EXCESS, WHOLE

pytestmark = pytest.mark.usefixtures("_guarded_memory")


def triton_op(form: str, device: str):
    """Return an implementation of `wkv4` on a device that forces the form; results on the CPU."""

    def run(*args: Any) -> tuple[Tensor, WKV4State]:
        *tensors, state, resets = args
        moved = [None if each is None else each.to(device) for each in (*tensors, *state, resets)]
        y, *after, _ = torch.ops.receptance.wkv4_triton(*moved, FORMS[form])
        return y.cpu(), WKV4State(*(each.cpu() for each in after))

    return run


def assert_agrees(case: Case, form: str, device: str) -> None:
    """Compare outputs and all gradients with the reference's in float64."""
    exact = results(case.to(torch.float64), wkv4_reference)
    actual = results(case, triton_op(form, device))
    errors = {name: relative_error(actual[name], exact[name]) for name in exact}
    assert max(errors.values()) < SINGLE, errors


@pytest.mark.parametrize(
    ("T", "form"),
    [
        *((T, "whole") for T in (1, 2, 15, 16, 17, 63, 64, 65, 257)),
        (33, "cut"),
        pytest.param(257, "cut", marks=pytest.mark.slow),
    ],
)
def test_any_number_of_tokens_agrees_with_the_reference(T, form, triton_device):
    case = make_case(1, T, 3, with_resets=T % 2 == 1, seed=T).to(torch.float32)
    assert_agrees(case, form, triton_device)


@pytest.mark.parametrize("C", [1, 33])
@pytest.mark.parametrize("form", FORMS)
def test_any_number_of_channels_and_rows_agrees_with_the_reference(C, form, triton_device):
    assert_agrees(make_case(2, 40, C, with_resets=True).to(torch.float32), form, triton_device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_lose_little_more_than_one_rounding(dtype, triton_device):
    case = make_case(1, 60, 40, with_resets=True).to(dtype)
    exact = results(case.to(torch.float64), wkv4_reference)
    actual = results(case, triton_op("whole", triton_device))
    for name in ("grad_k", "grad_v"):
        assert actual[name].dtype == dtype
        unavoidable = (exact[name].to(dtype).double() - exact[name]).square().mean().sqrt()
        error = (actual[name].double() - exact[name]).square().mean().sqrt()
        assert error <= HALF_EXCESS * unavoidable, name
    for name in ("grad_log_w", "grad_u", "grad_num", "grad_den"):
        assert relative_error(actual[name], exact[name]) < SINGLE, name


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's; -inf is meant
@pytest.mark.parametrize("form", FORMS)
def test_gradients_at_extreme_keys_and_decays_stay_finite_and_right(form, triton_device):
    log_w = torch.tensor([-float("inf"), -1e38, -1e30, -1e4, -1e-9, -0.0])
    case = make_case(1, 70, 6, seed=1).to(torch.float32)
    sign = torch.randint(-1, 2, case.k.shape, generator=torch.Generator().manual_seed(2))
    case = case._replace(log_w=log_w, k=1e4 * sign.float(), **WKV4State.zeros(1, 6)._asdict())
    expected = results(case, wkv4_reference)
    actual = results(case, triton_op(form, triton_device))
    for name, value in actual.items():
        assert value.isfinite().all(), name
    assert_all_close(actual, expected, **SINGLE_EACH)


def test_tensors_that_are_not_dense_are_read_right(triton_device):
    case = make_case(2, 20, 6, with_resets=True).to(torch.float32)
    strided = case._replace(
        k=case.k.transpose(0, 1).contiguous().transpose(0, 1),
        v=case.v.repeat(1, 1, 2)[..., ::2],
        num=case.num.t().contiguous().t(),
        u=case.u.repeat_interleave(2)[::2],
        grad_y=torch.ones(1, 1, 1).expand(2, 20, 6),
    )
    assert_agrees(strided, "whole", triton_device)


def test_inputs_are_left_as_they_are(triton_device):
    case = make_case(1, TILE + 1, 3, with_resets=True).to(torch.float32)
    before = [None if each is None else each.clone() for each in case]
    results(case, triton_op("cut", triton_device))
    for each, kept in zip(case, before, strict=True):
        assert each is not None
        assert kept is not None
        assert torch.equal(each, kept)


def test_gradients_that_are_not_asked_for_are_zero_or_left_out(triton_device):
    case = make_case(1, 3, 2).to(torch.float32)
    v = case.v.clone().requires_grad_()
    moved = [None if each is None else each.to(triton_device) for each in case[:8]]
    moved[3] = v.to(triton_device)
    _, num, *_ = torch.ops.receptance.wkv4_triton(*moved, WHOLE)
    (grad,) = torch.autograd.grad(num.sum(), v)
    leaf = case.v.double().requires_grad_()
    state = WKV4State(case.num.double(), case.den.double(), case.log_scale.double())
    _, after = wkv4_reference(
        case.log_w.double(), case.u.double(), case.k.double(), leaf, state, None
    )
    (expected,) = torch.autograd.grad(after.num.sum(), leaf)
    assert relative_error(grad, expected) < SINGLE

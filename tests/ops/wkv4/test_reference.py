"""The definition of `wkv4` beside the paper's sums, its gradients and its laws."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.wkv4 import WKV4State, wkv4
from tests.closed_sums import wkv_gradients, wkv_long, wkv_sums
from tests.tolerances import ALGEBRA, EXACT, GRADIENT

B, T, C = 2, 9, 5


def inputs(
    *, batch: int = B, length: int = T, seed: int = 0, requires_grad: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log_w, u, k and v in float64: decays from 0.99 to 0.05 a token."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_w = -torch.exp(torch.linspace(-4.6, 1.1, C, dtype=torch.float64))
    u, k, v = normal(C), 2 * normal(batch, length, C), normal(batch, length, C)
    for each in (log_w, u, k, v):
        each.requires_grad_(requires_grad)
    return log_w, u, k, v


def used_state(batch: int = B, seed: int = 9) -> WKV4State:
    """Return a state that has seen something, with a scale that is not that of its sums."""
    generator = torch.Generator().manual_seed(seed)
    num, noise, scale = torch.randn(3, batch, C, generator=generator, dtype=torch.float64)
    return WKV4State(num=num, den=noise.exp(), log_scale=3 * scale)


def empty_state(batch: int = B) -> WKV4State:
    return WKV4State.zeros(batch, C, dtype=torch.float64)


def reference(log_w, u, k, v, state, resets=None):
    return wkv4(log_w, u, k, v, state, resets=resets, implementation="reference")


def meaning(state: WKV4State) -> tuple[Tensor, Tensor]:
    """Return what a state means whatever its unit: the average, and the log of the weight."""
    return state.num / state.den, torch.log(state.den) + state.log_scale


def assert_same_state(found: WKV4State, expected: WKV4State) -> None:
    assert_close(meaning(found), meaning(expected), **ALGEBRA)


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64])
@pytest.mark.parametrize("state", [empty_state(), used_state()], ids=["empty", "used"])
def test_it_is_the_sum_that_the_paper_prints(length, state):
    log_w, u, k, v = inputs(length=length)
    y, after = reference(log_w, u, k, v, state)
    a_0, b_0 = (torch.exp(state.log_scale) * each for each in (state.num, state.den))
    for row in range(B):
        past = a_0[row].numpy(), b_0[row].numpy()
        expected, a, b = wkv_sums(log_w.numpy(), u.numpy(), k[row].numpy(), v[row].numpy(), past)
        assert_close(y[row], torch.from_numpy(expected), **ALGEBRA)
        average, log_weight = meaning(after)
        assert_close(average[row], torch.from_numpy(a / b), **ALGEBRA)
        assert_close(log_weight[row], torch.from_numpy(np.log(b)), **ALGEBRA)


def test_gradients_are_the_closed_sums_of_the_authors_kernel():
    leaves = inputs(length=12, requires_grad=True)
    g = torch.randn(B, 12, C, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y, _ = reference(*leaves, empty_state())
    found = torch.autograd.grad((g * y).sum(), leaves)

    log_w, u, k, v = (each.detach().numpy() for each in leaves)
    rows = [wkv_gradients(log_w, u, k[row], v[row], g[row].numpy()) for row in range(B)]
    sums = np.sum([row.log_w for row in rows], 0), np.sum([row.u for row in rows], 0)
    each_row = np.stack([row.k for row in rows]), np.stack([row.v for row in rows])
    for gradient, expected in zip(found, (*sums, *each_row), strict=True):
        assert_close(gradient, torch.from_numpy(expected), **GRADIENT)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("with_resets", [False, True])
def test_gradients_are_those_of_finite_differences(length, with_resets):
    """From the state's sums, and to what the new state means; its unit is a constant."""
    leaves = inputs(length=length, requires_grad=True)
    start = used_state()
    num, den = start.num.requires_grad_(), start.den.requires_grad_()
    resets = torch.zeros(B, length, dtype=torch.bool)
    resets[1, length // 2] = with_resets

    def outputs(log_w, u, k, v, num, den):
        y, after = reference(log_w, u, k, v, WKV4State(num, den, start.log_scale), resets)
        return y, *meaning(after)

    assert torch.autograd.gradcheck(outputs, (*leaves, num, den))


def test_no_gradient_reaches_the_scale():
    scale = used_state().log_scale.requires_grad_()
    y, after = reference(*inputs(requires_grad=True), used_state()._replace(log_scale=scale))
    assert not after.log_scale.requires_grad
    (y.sum() + after.num.sum() + after.den.sum()).backward()
    assert scale.grad is None


def test_another_unit_is_the_same_state():
    log_w, u, k, v = inputs()
    state = used_state()
    factor = torch.tensor(7.5, dtype=torch.float64)
    same = WKV4State(state.num * factor, state.den * factor, state.log_scale - torch.log(factor))
    y, after = reference(log_w, u, k, v, state)
    y_same, after_same = reference(log_w, u, k, v, same)
    assert_close(y_same, y, **ALGEBRA)
    assert_same_state(after_same, after)


@pytest.mark.parametrize("split", range(T + 1))
def test_splitting_a_sequence_changes_nothing(split):
    log_w, u, k, v = inputs()
    whole, after = reference(log_w, u, k, v, used_state())
    first, between = reference(log_w, u, k[:, :split], v[:, :split], used_state())
    second, last = reference(log_w, u, k[:, split:], v[:, split:], between)
    assert_close(torch.cat([first, second], dim=1), whole, **ALGEBRA)
    assert_same_state(last, after)


def test_gradients_flow_through_the_state_between_two_calls():
    leaves = inputs(requires_grad=True)
    log_w, u, k, v = leaves
    y, after = reference(*leaves, empty_state())
    expected = torch.autograd.grad((y.sin().sum() + meaning(after)[0].sum()), leaves)

    first, between = reference(log_w, u, k[:, :4], v[:, :4], empty_state())
    second, last = reference(log_w, u, k[:, 4:], v[:, 4:], between)
    loss = first.sin().sum() + second.sin().sum() + meaning(last)[0].sum()
    assert_close(torch.autograd.grad(loss, leaves), expected, **GRADIENT)


def test_a_batch_is_its_rows():
    log_w, u, k, v = inputs(batch=4)
    state = used_state(4)
    y, after = reference(log_w, u, k, v, state)
    for row in range(4):
        own = slice(row, row + 1)
        alone, own_after = reference(log_w, u, k[own], v[own], WKV4State(*(s[own] for s in state)))
        assert_close(alone, y[own], **ALGEBRA)
        assert_same_state(own_after, WKV4State(*(s[own] for s in after)))


@pytest.mark.parametrize("at", [0, 1, 4, T - 1])
def test_a_reset_starts_another_sequence(at):
    log_w, u, k, v = inputs()
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[0, at] = True  # the other row goes on
    y, after = reference(log_w, u, k, v, used_state(), resets)

    before, _ = reference(log_w, u, k[:, :at], v[:, :at], used_state())
    anew, anew_after = reference(log_w, u, k[:, at:], v[:, at:], empty_state())
    on, on_after = reference(log_w, u, k, v, used_state())
    assert_close(y[0], torch.cat([before, anew], dim=1)[0], **ALGEBRA)
    assert_close(y[1], on[1], **ALGEBRA)
    rows = zip(anew_after, on_after, strict=True)
    assert_same_state(after, WKV4State(*(torch.stack([a[0], b[1]]) for a, b in rows)))


def test_a_reset_at_every_token_leaves_each_with_itself():
    log_w, u, k, v = inputs()
    y, _ = reference(log_w, u, k, v, used_state(), torch.ones(B, T, dtype=torch.bool))
    assert_close(y, v, **ALGEBRA)


def test_no_gradient_passes_a_reset():
    log_w, u, k, v = inputs(requires_grad=True)
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[:, 4] = True
    y, _ = reference(log_w, u, k, v, empty_state(), resets)
    gradients = torch.autograd.grad(y[:, 4:].sum(), (k, v))
    for gradient in gradients:
        assert torch.equal(gradient[:, :4], torch.zeros_like(gradient[:, :4]))
        assert gradient[:, 5:].abs().min() > 0


def test_the_first_token_of_all_sees_only_itself():
    log_w, u, k, v = inputs(length=1)
    y, after = reference(log_w, u, k, v, empty_state())
    assert_close(y, v, **ALGEBRA)
    assert_close(meaning(after), (v[:, 0], k[:, 0]), **ALGEBRA)


def test_no_token_leaves_the_state_as_it_was():
    log_w, u, k, v = inputs(length=0)
    y, after = reference(log_w, u, k, v, used_state())
    assert y.shape == (B, 0, C)
    assert_close(after, used_state(), **EXACT)


@pytest.mark.parametrize("shift", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_key_is_too_large_or_too_small(shift, dtype):
    """Weights are relative: the same added to all keys changes nothing, beyond exp's range too."""
    # Multiples of 1/64 stay exact in float32 under the shift, so only an overflow could be seen.
    log_w, u, k, v = (torch.round(each * 64).to(dtype) / 64 for each in inputs(length=50))
    leaves = [each.clone().requires_grad_() for each in (log_w, u, k + shift, v)]
    y, after = reference(*leaves, state=WKV4State.zeros(B, C, dtype=dtype))
    expected, expected_after = reference(log_w, u, k, v, WKV4State.zeros(B, C, dtype=dtype))
    assert_close(y.detach(), expected, rtol=1e-6, atol=1e-6)
    assert_close(after.log_scale, expected_after.log_scale + shift, rtol=1e-6, atol=1e-6)
    for gradient in torch.autograd.grad(y.sum(), leaves):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_enormous_key_is_all_that_is_remembered(dtype):
    log_w, u, k, v = (each.to(dtype) for each in inputs(length=20))
    k = torch.full_like(k, -1e4)
    k[:, 7] = 1e4
    leaves = [each.clone().requires_grad_() for each in (log_w, u, k, v)]
    y, after = reference(*leaves, state=WKV4State.zeros(B, C, dtype=dtype))
    expected = v[:, 7:8].expand(-1, 13, -1)
    assert_close(y[:, 7:].detach(), expected, rtol=1e-6, atol=1e-6)
    assert_close(meaning(after)[0].detach(), v[:, 7], rtol=1e-6, atol=1e-6)
    for gradient in torch.autograd.grad(y.sum(), leaves):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_enormous_key_fades_like_any_other(dtype):
    """After 10 tokens of exp(-1000) it weighs less than the tokens around, and leaves no trace."""
    log_w = torch.full([C], -1e3, dtype=dtype)
    _, u, k, v = (each.to(dtype) for each in inputs(length=30))
    k[:, 0], v = 1e4, v.abs() + 0.1
    y, after = reference(log_w, u, k, v, WKV4State.zeros(B, C, dtype=dtype))
    for row in range(B):
        sums = wkv_long(*(each.double().numpy() for each in (log_w, u, k[row], v[row])))
        assert_close(y[row].double(), torch.from_numpy(sums), rtol=1e-5, atol=1e-6)
    assert_close(meaning(after), (v[:, -1], k[:, -1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("log_decay", [-0.0, -1e-9, -1e-30])
def test_a_decay_of_nothing_forgets_nothing(log_decay):
    _, _, k, v = inputs(length=500)
    log_w = torch.full([C], log_decay, dtype=torch.float64).requires_grad_()
    y, after = reference(log_w, torch.zeros(C).double(), torch.zeros_like(k), v, empty_state())
    counts = torch.arange(1, 501, dtype=torch.float64)[:, None]
    assert_close(y.detach(), v.cumsum(1) / counts, rtol=1e-6, atol=1e-6)  # 500 tokens of 1 - 1e-9
    assert_close(
        meaning(after)[1].exp().detach(), torch.full((B, C), 500.0).double(), rtol=1e-6, atol=0
    )
    assert torch.isfinite(torch.autograd.grad(y.sum(), log_w)[0]).all()


@pytest.mark.parametrize("log_decay", [-1e4, -1e30, -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_decay_of_everything_leaves_the_token_before(log_decay, dtype):
    _, u, k, v = (each.to(dtype) for each in inputs())
    log_w = torch.full([C], log_decay, dtype=dtype)
    leaves = [each.clone().requires_grad_() for each in (log_w, u, k, v)]
    y, after = reference(*leaves, state=WKV4State.zeros(B, C, dtype=dtype))
    now, before = torch.exp(u + k[:, 1:]), torch.exp(k[:, :-1])
    expected = (before * v[:, :-1] + now * v[:, 1:]) / (before + now)
    assert_close(y[:, 1:].detach(), expected, rtol=1e-5, atol=1e-6)
    assert_close(meaning(after)[0].detach(), v[:, -1], rtol=1e-6, atol=1e-6)
    for gradient in torch.autograd.grad(y.sum(), leaves):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("T", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_hundred_thousand_tokens_are_as_right_as_ten(dtype, tolerance, T):
    """Float32 sums of 100,000 terms keep four digits; a sum that drifted would keep none."""
    generator = torch.Generator().manual_seed(5)
    log_w = torch.tensor([-0.0, -1e-9, -1e-4, -0.1, -20.0], dtype=dtype)
    u = torch.tensor([0.5, 0.0, -0.5, -1.0, 1.0], dtype=dtype)
    k = (2 * torch.randn(1, T, C, generator=generator)).to(dtype)
    v = torch.rand(1, T, C, generator=generator).to(dtype) + 0.5
    y, _ = reference(log_w, u, k, v, WKV4State.zeros(1, C, dtype=dtype))
    expected = wkv_long(*(each.double().numpy() for each in (log_w, u, k[0], v[0])))
    assert_close(y[0].double(), torch.from_numpy(expected), rtol=tolerance, atol=0)

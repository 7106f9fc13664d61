"""The native implementation of `wkv4` against the reference, in every form and instruction set."""

from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.wkv4 import WKV4State, wkv4
from receptance.ops.wkv4.native import native_obstacle, wkv4_native
from receptance.ops.wkv4.reference import wkv4_reference
from tests.tolerances import ALGEBRA, Tolerance

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

FORMS = {"serial": 1, "parallel": 2}
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 1000)
NAMES = ("log_w", "u", "k", "v", "num", "den")

# Float32: an exponent p of size 10 is rounded by 5e-7 for each token that a sum outlives, which is
# the relative error of its weight; some tens of them stay below 3e-5 of the largest entry.
SINGLE = 3e-5
SINGLE_EACH: Tolerance = {"rtol": SINGLE, "atol": SINGLE}
# A hundred thousand tokens in float32: where a sum outlives a thousand tokens, log_w is rounded to
# the grid of p in the same direction each time, a thousand times 5e-7.
SINGLE_LONG = 5e-4
# Bfloat16: everything inside is float32, so nearly all of the error must come from rounding the
# results, which computing in float64 and rounding once cannot avoid either.
BFLOAT16_EXCESS = 1.5


class Case(NamedTuple):
    """Arguments of `wkv4`, and gradients to start backward from."""

    log_w: Tensor
    u: Tensor
    k: Tensor
    v: Tensor
    num: Tensor
    den: Tensor
    log_scale: Tensor
    resets: Tensor | None
    grad_y: Tensor
    grad_num: Tensor
    grad_den: Tensor

    def to(self, dtype: torch.dtype) -> "Case":
        """Return the case with k, v and grad_y in `dtype`, and the rest in what goes with it."""
        real = torch.float64 if dtype == torch.float64 else torch.float32
        varying = {name: getattr(self, name).to(dtype) for name in ("k", "v", "grad_y")}
        fixed = {
            name: getattr(self, name).to(real)
            for name in self._fields
            if name not in varying and name != "resets"
        }
        return self._replace(**varying, **fixed)


def make_case(B: int, T: int, C: int, *, with_resets: bool = False, seed: int = 0) -> Case:
    """Return a random case in float64, with a state to start from."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Case(
        log_w=-torch.exp(2 * normal(C) - 2),
        u=normal(C),
        k=3 * normal(B, T, C),
        v=normal(B, T, C),
        num=normal(B, C),
        den=normal(B, C).abs() + 0.5,
        log_scale=normal(B, C),
        resets=torch.rand(B, T, generator=generator) < 0.1 if with_resets else None,
        grad_y=normal(B, T, C),
        grad_num=normal(B, C),
        grad_den=normal(B, C),
    )


def results(case: Case, run) -> dict[str, Tensor]:
    """Return outputs, the final state in comparable quantities, and all gradients."""
    leaves = [getattr(case, name).detach().clone().requires_grad_() for name in NAMES]
    log_w, u, k, v, num, den = leaves
    y, after = run(log_w, u, k, v, WKV4State(num, den, case.log_scale), case.resets)
    loss = (y * case.grad_y).sum()
    loss = loss + (after.num * case.grad_num).sum() + (after.den * case.grad_den).sum()
    grads = torch.autograd.grad(loss, leaves)
    return {
        "y": y.detach(),
        "mean": (after.num / after.den).detach(),
        "log_den": (after.den.log() + after.log_scale).detach(),
        **{f"grad_{name}": grad for name, grad in zip(NAMES, grads, strict=True)},
    }


def native_op(form: str, instruction_set: str):
    """Return an implementation of `wkv4` that forces the form and the instruction set."""
    number = instruction_sets()[instruction_set]

    def run(log_w, u, k, v, state, resets):
        args = (log_w, u, k, v, *state, resets, FORMS[form], number)
        y, *after, _ = torch.ops.receptance.wkv4(*args)
        return y, WKV4State(*after)

    return run


@cache
def reference_results(T: int, with_resets: bool) -> dict[str, Tensor]:
    """Return the reference's results for the case that the tests of agreement share."""
    return results(make_case(2, T, 21, with_resets=with_resets, seed=T), wkv4_reference)


def assert_all_close(
    actual: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float
) -> None:
    for name, value in expected.items():
        assert_close(actual[name], value, rtol=rtol, atol=atol, msg=lambda text, n=name: n + text)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("T", LENGTHS)
def test_agrees_with_the_reference_in_float64(T, with_resets, form, instruction_set):
    case = make_case(2, T, 21, with_resets=with_resets, seed=T)
    actual = results(case, native_op(form, instruction_set))
    assert_all_close(actual, reference_results(T, with_resets), **ALGEBRA)


@pytest.mark.parametrize("C", [1, 7, 16, 33, 300])
@pytest.mark.parametrize("form", FORMS)
def test_any_number_of_channels_agrees_with_the_reference(C, form):
    case = make_case(3, 70, C, with_resets=True)
    expected = results(case, wkv4_reference)
    for instruction_set in instruction_sets():
        assert_all_close(results(case, native_op(form, instruction_set)), expected, **ALGEBRA)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_the_numerical_ones(form):
    case = make_case(1, 70, 1, with_resets=True)
    run = native_op(form, "portable")

    def true_sums(*leaves: Tensor) -> tuple[Tensor, ...]:
        log_w, u, k, v, num, den = leaves
        y, after = run(log_w, u, k, v, WKV4State(num, den, case.log_scale), case.resets)
        unit = after.log_scale.detach().exp()  # without it, num and den have no fixed meaning
        return y, after.num * unit, after.den * unit

    leaves = tuple(getattr(case, name).clone().requires_grad_() for name in NAMES)
    assert torch.autograd.gradcheck(true_sums, leaves)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("form", FORMS)
def test_float32_stays_near_the_float64_reference(form, instruction_set):
    single = make_case(2, 200, 40, with_resets=True).to(torch.float32)
    exact = results(single.to(torch.float64), wkv4_reference)
    actual = results(single, native_op(form, instruction_set))
    errors = {name: relative_error(actual[name], exact[name]) for name in exact}
    assert max(errors.values()) < SINGLE, errors


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_loses_little_more_than_one_rounding(form, instruction_set):
    half = make_case(2, 200, 40, with_resets=True).to(torch.bfloat16)
    exact = results(half.to(torch.float64), wkv4_reference)
    actual = results(half, native_op(form, instruction_set))
    for name in ("y", "grad_k", "grad_v"):
        assert actual[name].dtype == torch.bfloat16
        unavoidable = (exact[name].bfloat16().double() - exact[name]).square().mean().sqrt()
        error = (actual[name].double() - exact[name]).square().mean().sqrt()
        assert error <= BFLOAT16_EXCESS * unavoidable, name
    for name in set(exact) - {"y", "grad_k", "grad_v"}:
        assert relative_error(actual[name], exact[name]) < SINGLE, name


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_bfloat16_is_rounded_as_pytorch_rounds(instruction_set):
    # One token from the zero state: y is v, and comes back as it went in, NaN included.
    every_value = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    v = every_value.view(torch.bfloat16).reshape(1, 1, -1)
    C = v.shape[2]
    zeros = torch.zeros(C)
    args = (zeros, zeros, torch.zeros_like(v), v, WKV4State.zeros(1, C), None)
    y, _ = native_op("serial", instruction_set)(*args)
    assert_close(y, v, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("form", FORMS)
def test_splitting_a_sequence_changes_nothing(form):
    case = make_case(2, 200, 5, with_resets=True)
    state = WKV4State(case.num, case.den, case.log_scale)
    run = native_op(form, "portable")
    whole, after = run(case.log_w, case.u, case.k, case.v, state, case.resets)
    assert case.resets is not None
    pieces = []
    for begin, end in ((0, 1), (1, 1), (1, 65), (65, 200)):
        k, v, resets = (each[:, begin:end] for each in (case.k, case.v, case.resets))
        y, state = run(case.log_w, case.u, k, v, state, resets)
        pieces.append(y)
    assert_close(torch.cat(pieces, dim=1), whole, **ALGEBRA)
    assert_close(state.num / state.den, after.num / after.den, **ALGEBRA)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("_restored_threads")
def test_results_do_not_depend_on_the_number_of_threads(form, dtype):
    case = make_case(2, 400, 200, with_resets=True).to(dtype)
    run = native_op(form, "portable")
    torch.set_num_threads(1)
    alone = results(case, run)
    for n_threads in (2, 3, 8):
        torch.set_num_threads(n_threads)
        assert_all_close(results(case, run), alone, rtol=0, atol=0)


def test_results_of_a_row_do_not_depend_on_the_batch():
    case = make_case(3, 100, 40).to(torch.float32)
    state = WKV4State(case.num, case.den, case.log_scale)
    together, _ = wkv4_native(case.log_w, case.u, case.k, case.v, state, None)
    row = WKV4State(*(each[1:2] for each in state))
    alone, _ = wkv4_native(case.log_w, case.u, case.k[1:2], case.v[1:2], row, None)
    assert torch.equal(alone, together[1:2])


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("log_w", [-float("inf"), -1e38, -1e30, -1e4, -1e-9, -0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_keys_and_decays_stay_finite_and_right(dtype, log_w, form, instruction_set):
    case = make_case(1, 130, 3, seed=1).to(dtype)
    generator = torch.Generator().manual_seed(2)
    sign = torch.randint(-1, 2, case.k.shape, generator=generator)
    zero = WKV4State.zeros(1, 3, dtype=dtype)
    case = case._replace(
        log_w=torch.full_like(case.log_w, log_w), k=1e4 * sign.to(dtype), **zero._asdict()
    )
    expected = results(case, wkv4_reference)
    actual = results(case, native_op(form, instruction_set))
    tolerance = ALGEBRA if dtype == torch.float64 else SINGLE_EACH
    for name, value in actual.items():
        assert value.isfinite().all(), name
    assert_all_close(actual, expected, **tolerance)


def test_a_hundred_thousand_tokens_agree_in_both_forms():
    case = make_case(1, 100_000, 4)
    case = case._replace(log_w=torch.tensor([-1e-9, -1e-3, -0.5, -50.0], dtype=torch.float64))
    serial = results(case, native_op("serial", "portable"))
    parallel = results(case, native_op("parallel", "portable"))
    assert_all_close(parallel, serial, **ALGEBRA)
    single = results(case.to(torch.float32), native_op("serial", "portable"))
    exact = results(case.to(torch.float32).to(torch.float64), native_op("serial", "portable"))
    for name in ("y", "grad_k", "grad_v"):
        assert relative_error(single[name], exact[name]) < SINGLE_LONG, name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_empty_shapes_work(shape, form):
    case = make_case(*shape)
    actual = results(case, native_op(form, "portable"))
    assert actual["y"].shape == shape
    assert torch.equal(actual["grad_u"], torch.zeros_like(case.u))
    if shape[1] == 0:
        assert_close(actual["mean"], case.num / case.den)
        assert_close(actual["grad_num"], case.grad_num)


def test_tensors_that_are_not_contiguous_are_read_right():
    case = make_case(2, 20, 6, with_resets=True)
    strided = case._replace(
        k=case.k.transpose(0, 1).contiguous().transpose(0, 1),
        v=case.v.repeat(1, 1, 2)[..., ::2].clone(memory_format=torch.preserve_format),
        num=case.num.t().contiguous().t(),
        u=case.u.repeat_interleave(2)[::2],
        grad_y=torch.ones(1, 1, 1, dtype=torch.float64).expand(2, 20, 6),
    )
    expected = results(strided, wkv4_reference)
    assert_all_close(results(strided, wkv4_native), expected, **ALGEBRA)


def test_inputs_are_left_as_they_are():
    case = make_case(2, 40, 6, with_resets=True)
    before = [None if each is None else each.clone() for each in case]
    results(case, native_op("parallel", "portable"))
    for each, kept in zip(case, before, strict=True):
        assert each is not None
        assert kept is not None
        assert torch.equal(each, kept)


WRONG_ARGUMENTS = [
    ({"k": torch.zeros(4, 5)}, r"`k` must have the shape \[B, T, C\], got \[4, 5\]"),
    ({"k": torch.zeros(2, 4, 5).half()}, "`k` must have the dtype Float, BFloat16 or Double, got"),
    ({"v": torch.zeros(2, 4, 6)}, r"`v` must have the shape \[2, 4, 5\], got \[2, 4, 6\]"),
    ({"v": torch.zeros(2, 4, 5).bfloat16()}, "`v` must have the dtype Float, got BFloat16"),
    ({"u": torch.zeros(1)}, r"`u` must have the shape \[5\], got \[1\]"),
    ({"log_w": torch.zeros(5).double()}, "`log_w` must have the dtype Float, got Double"),
    ({"num": torch.zeros(2, 1)}, r"`num` must have the shape \[2, 5\], got \[2, 1\]"),
    ({"den": torch.zeros(5)}, r"`den` must have the shape \[2, 5\], got \[5\]"),
    ({"log_scale": torch.zeros(3, 5)}, r"`log_scale` must have the shape \[2, 5\], got \[3, 5\]"),
    ({"resets": torch.zeros(2, 3).bool()}, r"`resets` must have the shape \[2, 4\], got \[2, 3\]"),
    ({"resets": torch.zeros(2, 4)}, "`resets` must have the dtype Bool, got Float"),
    ({"form": 3}, r"`form` must be 0 \(automatic\), 1 \(serial\) or 2 \(parallel\), got 3"),
    ({"instruction_set": 9}, r"`instruction_set` must be 0 \(the widest\) or one of .*, got 9"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_ARGUMENTS)
def test_the_op_refuses_what_it_cannot_read(wrong, message):
    case = make_case(2, 4, 5).to(torch.float32)
    arguments = {**dict(list(case._asdict().items())[:8]), **wrong}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.wkv4(**arguments)


def test_obstacles_say_what_stands_in_the_way():
    case = make_case(1, 2, 3).to(torch.float32)
    state = WKV4State(case.num, case.den, case.log_scale)

    def obstacle(k: Tensor, v: Tensor) -> str | None:
        return native_obstacle(case.log_w, case.u, k, v, state, None)

    assert obstacle(case.k, case.v) is None
    half = case.k.half()
    assert "it serves float32, bfloat16 and float64, and `k` is" in str(obstacle(half, half))
    assert "must have the dtype of `k`" in str(obstacle(case.k, case.v.bfloat16()))
    double = case.k.double()
    assert "must be torch.float64 where `k` is torch.float64" in str(obstacle(double, double))
    assert "a tensor is on meta" in str(obstacle(case.k.to("meta"), case.v))


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, in inductor
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_traces_whole_under_torch_compile(dynamic):
    case = make_case(2, 12, 6, with_resets=True).to(torch.float32)
    compiled = torch.compile(wkv4, fullgraph=True, dynamic=dynamic)

    def run(log_w, u, k, v, state, resets):
        return compiled(log_w, u, k, v, state, resets=resets)

    assert_all_close(results(case, run), results(case, wkv4_native), rtol=0, atol=0)

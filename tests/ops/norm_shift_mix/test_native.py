"""The native `norm_shift_mix` against the reference, in every instruction set."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.norm_shift_mix import norm_shift_mix
from receptance.ops.norm_shift_mix.native import native_obstacle, norm_shift_mix_native
from receptance.ops.norm_shift_mix.reference import norm_shift_mix_reference
from tests.tolerances import ALGEBRA

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 1000)
EPS = 1e-5

# Float32: a row's mean and variance round a few times, a sum over some hundred tokens as many.
SINGLE = 1e-5
# Bfloat16: everything inside is float32, so nearly all of the error must come from rounding the
# results, which computing in float64 and rounding once cannot avoid either.
BFLOAT16_EXCESS = 1.5

Case = dict[str, Any]
Run = Callable[..., tuple[tuple[Tensor, ...], Tensor]]


def make_case(
    B: int, T: int, C: int, n_mixes: int = 3, *, with_resets: bool = False, seed: int = 0
) -> Case:
    """Return random arguments in float64, and gradients to start backward from."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": 2 * normal(B, T, C) + normal(B, T, 1),
        "weight": 1 + normal(C) / 2,
        "bias": normal(C),
        "x_last": normal(B, C),
        "mixes": tuple(0.5 + normal(C) for _ in range(n_mixes)),
        "resets": torch.rand(B, T, generator=generator) < 0.1 if with_resets else None,
        "grad_mixed": tuple(normal(B, T, C) for _ in range(n_mixes)),
        "grad_last": normal(B, C),
    }


def results(case: Case, run: Run, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return outputs and all gradients, with the mixed and their gradients in `dtype`."""
    real = torch.float64 if dtype == torch.float64 else torch.float32
    names = ("x", "weight", "bias", "x_last")
    leaves = [case[name].to(real).requires_grad_() for name in names]
    mixes = tuple(mix.to(real).requires_grad_() for mix in case["mixes"])
    x, weight, bias, x_last = leaves
    mixed, last = run(x, weight, bias, mixes, x_last, case["resets"], EPS, dtype)
    outputs, seeds = [*mixed, last], [*case["grad_mixed"], case["grad_last"]]
    seeds = [seed.to(output.dtype) for seed, output in zip(seeds, outputs, strict=True)]
    grads = torch.autograd.grad(outputs, [*leaves, *mixes], seeds)
    found = {f"mixed_{i}": each.detach() for i, each in enumerate(mixed)}
    found["last"] = last.detach()
    found |= {f"grad_{name}": each for name, each in zip(names, grads, strict=False)}
    found |= {f"grad_mix_{i}": each for i, each in enumerate(grads[len(names) :])}
    return found


def native_op(instruction_set: str) -> Run:
    """Return an implementation that forces the instruction set."""
    number = instruction_sets()[instruction_set]

    def run(x, weight, bias, mixes, x_last, resets, eps, dtype):
        mixed, last, _, _ = torch.ops.receptance.norm_shift_mix(
            x, weight, bias, list(mixes), x_last, resets, eps, dtype, number
        )
        return tuple(mixed), last

    return run


def assert_all_close(actual: dict[str, Tensor], expected: dict[str, Tensor], **tolerance) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(actual[name], value, **tolerance, msg=lambda text, n=name: n + text)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("n_mixes", [2, 3])
@pytest.mark.parametrize("T", LENGTHS)
def test_agrees_with_the_reference_in_float64(T, n_mixes, with_resets, instruction_set):
    case = make_case(2, T, 21, n_mixes, with_resets=with_resets, seed=T)
    expected = results(case, norm_shift_mix_reference)
    assert_all_close(results(case, native_op(instruction_set)), expected, **ALGEBRA)


@pytest.mark.parametrize("C", [2, 7, 16, 33, 64, 130, 300])
def test_any_number_of_channels_agrees_with_the_reference(C):
    case = make_case(3, 40, C, with_resets=True)
    expected = results(case, norm_shift_mix_reference)
    for instruction_set in instruction_sets():
        assert_all_close(results(case, native_op(instruction_set)), expected, **ALGEBRA)


def test_a_reset_of_the_first_token_forgets_x_last():
    case = make_case(2, 3, 8)
    case["resets"] = torch.tensor([[True, False, False], [False, True, True]])
    actual = results(case, norm_shift_mix_native)
    assert_all_close(actual, results(case, norm_shift_mix_reference), **ALGEBRA)
    assert torch.equal(actual["grad_x_last"][0], torch.zeros(8, dtype=torch.float64))
    assert actual["grad_x_last"][1].abs().min() > 0


@pytest.mark.parametrize("n_mixes", [2, 3])
def test_gradients_are_the_numerical_ones(n_mixes):
    case = make_case(2, 35, 2, n_mixes, with_resets=True)
    leaves = [case[name].requires_grad_() for name in ("x", "weight", "bias", "x_last")]
    leaves += [mix.requires_grad_() for mix in case["mixes"]]

    def run(x, weight, bias, x_last, *mixes):
        args = (x, weight, bias, mixes, x_last, case["resets"], 0.1, torch.float64)
        mixed, last = norm_shift_mix_native(*args)
        return (*mixed, last)

    assert torch.autograd.gradcheck(run, leaves)


def test_gradients_that_nothing_asks_for_are_zero():
    case = make_case(2, 5, 8)
    x = case["x"].requires_grad_()
    rest = (case["weight"], case["bias"], case["mixes"], case["x_last"], None, EPS, torch.float64)
    for which in range(3):
        grads = [
            torch.autograd.grad(run(x, *rest)[0][which].sin().sum(), x)
            for run in (norm_shift_mix_native, norm_shift_mix_reference)
        ]
        assert_close(*grads, **ALGEBRA)
    grads = [
        torch.autograd.grad(run(x, *rest)[1].sin().sum(), x)
        for run in (norm_shift_mix_native, norm_shift_mix_reference)
    ]
    assert_close(*grads, **ALGEBRA)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_float32_stays_near_the_float64_reference(instruction_set):
    case = make_case(2, 200, 40, with_resets=True)
    single = {
        name: tuple(each.float().double() for each in value)
        if isinstance(value, tuple)
        else value.float().double()
        for name, value in case.items()
        if name != "resets"
    } | {"resets": case["resets"]}
    exact = results(single, norm_shift_mix_reference)
    actual = results(single, native_op(instruction_set), torch.float32)
    errors = {name: relative_error(actual[name], exact[name]) for name in exact}
    assert max(errors.values()) < SINGLE, errors


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_bfloat16_loses_little_more_than_one_rounding(instruction_set):
    case = make_case(2, 200, 40, with_resets=True)
    case["grad_mixed"] = tuple(each.bfloat16().double() for each in case["grad_mixed"])
    exact = results(case, norm_shift_mix_reference)
    actual = results(case, native_op(instruction_set), torch.bfloat16)
    for name, value in exact.items():
        if name.startswith("mixed"):
            assert actual[name].dtype == torch.bfloat16
            unavoidable = (value.bfloat16().double() - value).square().mean().sqrt()
            error = (actual[name].double() - value).square().mean().sqrt()
            assert error <= BFLOAT16_EXCESS * unavoidable, name
        else:
            assert actual[name].dtype == torch.float32
            assert relative_error(actual[name], value) < SINGLE, name


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_a_large_mean_costs_no_precision(instruction_set):
    # One pass over the squares would leave nothing of a variance of 1 beside a mean of 3000.
    case = make_case(1, 4, 64)
    case["x"] = (case["x"] + 3000).float().double()
    exact = results(case, norm_shift_mix_reference)
    actual = results(case, native_op(instruction_set), torch.float32)
    assert relative_error(actual["mixed_0"], exact["mixed_0"]) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("_restored_threads")
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    case = make_case(2, 700, 200, with_resets=True)
    run = native_op("portable")
    torch.set_num_threads(1)
    alone = results(case, run, dtype)
    for n_threads in (2, 3, 8):
        torch.set_num_threads(n_threads)
        assert_all_close(results(case, run, dtype), alone, rtol=0, atol=0)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_results_of_a_token_do_not_depend_on_the_batch_or_on_where_the_text_is_cut(
    instruction_set,
):
    case = make_case(3, 100, 40)
    run = native_op(instruction_set)
    x, weight, bias, x_last = (case[n].float() for n in ("x", "weight", "bias", "x_last"))
    mixes = tuple(mix.float() for mix in case["mixes"])
    whole, whole_last = run(x, weight, bias, mixes, x_last, None, EPS, torch.float32)
    last = x_last[1:2]
    for begin, end in ((0, 1), (1, 40), (40, 73), (73, 100)):
        mixed, last = run(x[1:2, begin:end], weight, bias, mixes, last, None, EPS, torch.float32)
        for found, expected in zip(mixed, whole, strict=True):
            assert torch.equal(found, expected[1:2, begin:end])
    assert torch.equal(last, whole_last[1:2])


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (0, 0, 4)])
def test_empty_shapes_work(shape):
    case = make_case(*shape)
    actual = results(case, native_op("portable"))
    assert actual["mixed_0"].shape == shape
    for name in ("weight", "bias", "mix_0"):
        assert torch.equal(actual[f"grad_{name}"], torch.zeros(4, dtype=torch.float64))
    if shape[1] == 0:
        assert torch.equal(actual["last"], case["x_last"])
        assert torch.equal(actual["grad_x_last"], case["grad_last"])


def test_tensors_that_are_not_contiguous_are_read_right():
    case = make_case(2, 20, 6, with_resets=True)
    strided = case | {
        "x": case["x"].transpose(0, 1).contiguous().transpose(0, 1),
        "weight": case["weight"].repeat_interleave(2)[::2],
        "x_last": case["x_last"].t().contiguous().t(),
        "grad_mixed": tuple(
            torch.ones(1, 1, 1, dtype=torch.float64).expand(2, 20, 6) for _ in range(3)
        ),
    }
    expected = results(strided, norm_shift_mix_reference)
    assert_all_close(results(strided, norm_shift_mix_native), expected, **ALGEBRA)


WRONG_ARGUMENTS = [
    ({"x": torch.zeros(4, 5)}, r"`x` must have the shape \[B, T, C\], got \[4, 5\]"),
    ({"x": torch.zeros(2, 4, 5).half()}, "`x` must have the dtype Float, got Half"),
    ({"dtype": torch.float16}, "`dtype` must have the dtype Float, BFloat16 or Double, got Half"),
    ({"weight": torch.zeros(1)}, r"`weight` must have the shape \[5\], got \[1\]"),
    ({"bias": torch.zeros(5).double()}, "`bias` must have the dtype Float, got Double"),
    ({"mixes": [torch.zeros(5)]}, "`mixes` must hold 2 or 3 tensors, got 1"),
    ({"mixes": [torch.zeros(5), torch.zeros(4)]}, r"`mixes` must have the shape \[5\], got \[4\]"),
    ({"x_last": torch.zeros(5)}, r"`x_last` must have the shape \[2, 5\], got \[5\]"),
    ({"resets": torch.zeros(2, 3).bool()}, r"`resets` must have the shape \[2, 4\], got \[2, 3\]"),
    ({"instruction_set": 9}, r"`instruction_set` must be 0 \(the widest\) or one of .*, got 9"),
]


def op_arguments(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of the op itself, in `dtype` and what goes with it."""
    real = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = {name: case[name].to(real) for name in ("x", "weight", "bias")}
    tensors["mixes"] = [mix.to(real) for mix in case["mixes"]]
    tensors |= {"x_last": case["x_last"].to(real), "resets": case["resets"]}
    return tensors | {"eps": EPS, "dtype": dtype, "instruction_set": 0}


@pytest.mark.parametrize(("wrong", "message"), WRONG_ARGUMENTS)
def test_the_op_refuses_what_it_cannot_read(wrong, message):
    arguments = op_arguments(make_case(2, 4, 5), torch.float32) | wrong
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.norm_shift_mix(**arguments)


def test_obstacles_say_what_stands_in_the_way():
    x, row, last = torch.zeros(1, 2, 3), torch.zeros(3), torch.zeros(1, 3)

    def obstacle(x: Tensor, n_mixes: int) -> str | None:
        mixes = (row,) * n_mixes
        return native_obstacle(x, row, row, mixes, last, None, EPS, torch.float32)

    assert obstacle(x, 2) is None
    assert "it serves 2 or 3 mixes, and there are 1" in str(obstacle(x, 1))
    assert "a tensor is on meta" in str(obstacle(x.to("meta"), 3))


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, in inductor
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_traces_whole_under_torch_compile(dynamic):
    case = make_case(2, 12, 6, with_resets=True)
    compiled = torch.compile(norm_shift_mix, fullgraph=True, dynamic=dynamic)

    def run(x, weight, bias, mixes, x_last, resets, eps, dtype):
        return compiled(x, weight, bias, mixes, x_last, eps=eps, resets=resets, dtype=dtype)

    for dtype in (torch.float32, torch.bfloat16):
        expected = results(case, norm_shift_mix_native, dtype)
        assert_all_close(results(case, run, dtype), expected, rtol=0, atol=0)

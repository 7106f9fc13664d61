"""The kernels of `norm_shift_mix` against the reference in float64, between guards."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.norm_shift_mix import triton as ours
from receptance.ops.norm_shift_mix.reference import norm_shift_mix_reference
from receptance.ops.norm_shift_mix.triton import Launch, norm_shift_mix_triton
from tests.compiled_kernels import run_compiling
from tests.tolerances import rounded_once

pytestmark = pytest.mark.usefixtures("_guarded_memory")

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 257)
EPS = 1e-5

# Of the largest number of an array. A row's mean and variance round a few times in float32, and a
# vector's gradient is a sum over some hundred tokens (seen: 1e-6).
SINGLE = 1e-5

Case = dict[str, Any]


def make_case(
    shape: tuple[int, int, int],
    n_mixes: int = 3,
    *,
    with_resets: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """Return random arguments, and gradients to start backward from."""
    B, T, C = shape
    generator = torch.Generator().manual_seed(T)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "x": 2 * normal(B, T, C) + normal(B, T, 1),
        "weight": 1 + normal(C) / 2,
        "bias": normal(C),
        "x_last": normal(B, C),
        "mixes": [0.5 + normal(C) for _ in range(n_mixes)],
        "resets": torch.rand(B, T, generator=generator) < 0.1 if with_resets else None,
        "seeds": [*(normal(B, T, C).to(dtype) for _ in range(n_mixes)), normal(B, C)],
    }


def results(run: Any, case: Case, real: torch.dtype, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return outputs and all gradients, with the mixed and their gradients in `dtype`."""
    names = ("x", "weight", "bias", "x_last")
    leaves = [case[name].to(real).requires_grad_() for name in names]
    mixes = [mix.to(real).requires_grad_() for mix in case["mixes"]]
    x, weight, bias, x_last = leaves
    mixed, last = run(x, weight, bias, tuple(mixes), x_last, case["resets"], EPS, dtype)
    outputs = [*mixed, last]
    seeds = [seed.to(each.dtype) for seed, each in zip(case["seeds"], outputs, strict=True)]
    grads = torch.autograd.grad(outputs, [*leaves, *mixes], seeds)
    found = {f"mixed {i}": each.detach() for i, each in enumerate(mixed)}
    labels = [*names, *(f"mix {i}" for i in range(len(mixes)))]
    found |= {f"gradient of {name}": each for name, each in zip(labels, grads, strict=True)}
    return {**found, "last": last.detach()}


def assert_agrees(case: Case, device: str, dtype: torch.dtype = torch.float32) -> None:
    def there(each: Any) -> Any:
        return [one.to(device) for one in each] if isinstance(each, list) else each

    case = {
        name: there(each) if not isinstance(each, Tensor) else each.to(device)
        for name, each in case.items()
    }
    expected = results(norm_shift_mix_reference, case, torch.float64, torch.float64)
    actual = results(norm_shift_mix_triton, case, torch.float32, dtype)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        found = actual[name]
        assert found.dtype == (dtype if name.startswith("mixed") else torch.float32)
        size = value.abs().max().item()
        rtol = 0 if found.dtype == torch.float32 else rounded_once(dtype, device)
        assert_close(
            found.double(), value, rtol=rtol, atol=SINGLE * size, msg=lambda text, n=name: n + text
        )


@pytest.mark.parametrize("T", LENGTHS)
def test_results_and_gradients_are_the_references(T, triton_device):
    B = 2 if T < 63 else 1  # the interpreter takes some 10 ms for a token
    assert_agrees(make_case((B, T, 21), with_resets=T % 2 == 1), triton_device)


@pytest.mark.parametrize(("n_mixes", "with_resets"), [(2, True), (3, True), (3, False)])
@pytest.mark.parametrize("tokens", [3, 5, 16])
def test_programs_of_many_tokens_agree_with_the_reference(
    tokens, with_resets, n_mixes, triton_device, monkeypatch
):
    def launch(B: int, T: int, C: int, *, is_backward: bool) -> Launch:  # noqa: ARG001
        return Launch(tokens, -(-T // tokens), 32, 1)

    monkeypatch.setattr(ours, "launch", launch)
    assert_agrees(make_case((2, 11, 19), n_mixes, with_resets=with_resets), triton_device)


@pytest.mark.parametrize("n_mixes", [2, 3])
@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("tokens", [1, 3, 8, 11])
def test_sums_by_blocks_of_channels_agree_with_the_reference(
    tokens, with_resets, n_mixes, triton_device, monkeypatch
):
    monkeypatch.setattr(ours, "MOST_FUSED", 0)
    monkeypatch.setattr(ours, "SUMS", {"ROWS": 4, "BLOCK": 16})
    monkeypatch.setattr(ours, "tokens_of_sums", lambda *_: tokens)
    assert_agrees(make_case((2, 11, 19), n_mixes, with_resets=with_resets), triton_device)


@pytest.mark.parametrize("C", [1, 5, 16, 17, 64, 130, 300])
def test_any_number_of_channels_agrees_with_the_reference(C, triton_device):
    case = make_case((2, 5, C), with_resets=True)
    if C == 1:  # a row of one number has no deviation: x̂ is 0, and so is the gradient of x
        assert not results(norm_shift_mix_triton, case, torch.float32, torch.float32)[
            "gradient of x"
        ].any()
        return
    assert_agrees(case, triton_device)


def test_rows_too_wide_to_hold_the_vectors_agree_with_the_reference(triton_device):
    assert_agrees(make_case((1, 3, 4100), with_resets=True), triton_device)


PROGRAM = """
import importlib, json
import torch
from receptance.ops.norm_shift_mix import triton as ours
from tests.compiled_kernels import Compiling, spilled_bytes

kernels = Compiling(importlib.import_module(f"{ours.__name__}.kernels"))
ours.kernels_of = lambda package: kernels
x, vector = torch.zeros(1, 4, 5120), torch.zeros(5120)
moments, d = torch.zeros(1, 4), torch.zeros(1, 4, 5120, dtype=torch.bfloat16)
torch.ops.receptance.norm_shift_mix_backward_triton(
    x, vector, vector, [vector] * 3, x[:, 0], None, moments, moments, [d] * 3, None
)
print(json.dumps({name: spilled_bytes(assembly) for name, assembly in kernels.assembly()}))
"""


def test_backward_of_wide_rows_spills_nothing(tmp_path):
    found = json.loads(run_compiling(PROGRAM, tmp_path))
    assert found == {"backward_of_last": 0, "backward": 0, "sum_channels": 0}


@pytest.mark.parametrize("n_mixes", [2, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_enters_the_matrices_is_rounded_once(dtype, n_mixes, triton_device):
    assert_agrees(make_case((2, 9, 21), n_mixes, dtype=dtype), triton_device, dtype)


def test_resets_forget_x_last_and_the_token_before(triton_device):
    case = make_case((2, 3, 8))
    case["resets"] = torch.tensor([[True, False, False], [False, True, True]])
    assert_agrees(case, triton_device)
    if triton_device == "cpu":
        found = results(norm_shift_mix_triton, case, torch.float32, torch.float32)
        assert not found["gradient of x_last"][0].any()
        assert found["gradient of x_last"][1].all()


def test_rows_far_from_zero_keep_their_deviation(triton_device):
    case = make_case((2, 5, 64))
    # A variance from the mean of squares would be lost: the last place of 1e4² is 8.
    case["x"] = case["x"] + 1e4
    names = ("x", "weight", "bias", "x_last")
    x, weight, bias, x_last = (case[name].to(triton_device) for name in names)
    mixes = tuple(mix.to(triton_device) for mix in case["mixes"])
    found, _ = norm_shift_mix_triton(x, weight, bias, mixes, x_last, None, EPS, torch.float32)
    x, weight, bias, x_last = (each.double() for each in (x, weight, bias, x_last))
    mixes = tuple(mix.double() for mix in mixes)
    expected, _ = norm_shift_mix_reference(x, weight, bias, mixes, x_last, None, EPS, torch.float64)
    for mixed, value in zip(found, expected, strict=True):
        # The last place of 1e4 is 1e-3, and the mean is a few of them off at most.
        assert_close(mixed.double(), value, rtol=0, atol=1e-2)

"""The chunked `linear_cross_entropy` against the reference, by either kernel."""

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.linear_cross_entropy import chunked, linear_cross_entropy
from receptance.ops.linear_cross_entropy.chunked import (
    chunk_tokens,
    chunked_obstacle,
    native_obstacle,
    plain_row_gradient,
)
from receptance.ops.native import instruction_sets, library_obstacle
from tests.tolerances import ALGEBRA, EXACT, FLOAT32, Tolerance

BUILD = Path(__file__).parents[3] / "build" / "editable"
needs_library = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))
needs_build = pytest.mark.skipif(
    not BUILD.is_dir(), reason=f"needs the extension's build folder {BUILD}, left by make setup"
)

pytestmark = pytest.mark.usefixtures("_poisoned_memory")

KERNELS = ["chunked", pytest.param("native", marks=needs_library)]

# Bfloat16 has 8 bits: each entry of a gradient is rounded once where the logits become gradients
# and once as a product, 2^-9 each, of the largest entries that a sum is made of.
BFLOAT16_GRADIENT = 0.01


def case(
    N: int, C: int = 5, V: int = 37, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(N)
    x = 2 * torch.randn(N, C, dtype=torch.float64, generator=generator)
    weight = torch.randn(V, C, dtype=torch.float64, generator=generator)
    targets = torch.randint(V, (N,), generator=generator)
    return x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def results(
    args: tuple[Tensor, Tensor, Tensor], implementation: str, auxiliary: float = 0.3
) -> tuple[Tensor, ...]:
    """Return both means, the costs, and both gradients of a multiple of the second."""
    loss = linear_cross_entropy(*args, auxiliary=auxiliary, implementation=implementation)
    return *loss, *torch.autograd.grad(loss.total * 0.7, args[:2])


@pytest.fixture
def _small_chunks(monkeypatch) -> None:
    """Give a chunk 16 tokens of 37 logits in float64."""
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 16 * 37 * 8)


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("N", [1, 2, 15, 16, 17, 63, 64, 65, 1000])
def test_it_agrees_with_the_reference(N, kernel):
    args = case(N)
    assert_close(results(args, kernel), results(args, "reference"), **ALGEBRA)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("V", [1, 2, 7, 8, 9, 16, 17, 31, 33, 500])
def test_any_vocabulary_agrees_with_the_reference(V, kernel):
    args = case(9, V=V)
    assert_close(results(args, kernel), results(args, "reference"), **ALGEBRA)


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_the_numerical_ones(kernel):
    x, weight, targets = case(20, C=2, V=37)

    def total(x: Tensor, weight: Tensor) -> Tensor:
        args = (x, weight, targets)
        return linear_cross_entropy(*args, auxiliary=0.3, implementation=kernel).total

    assert torch.autograd.gradcheck(total, (x, weight))


@pytest.mark.parametrize("kernel", KERNELS)
def test_float32_stays_near_the_float64_reference(kernel):
    x, weight, targets = case(300, C=40, V=1000, dtype=torch.float32)
    exact = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    expected = results((*exact, targets), "reference")
    actual = results((x, weight, targets), kernel)
    assert_close(tuple(each.double() for each in actual), expected, **FLOAT32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_products_stay_near_the_float64_reference(kernel):
    x, weight, targets = case(300, C=40, V=1000, dtype=torch.bfloat16)
    x.data /= 16  # logits of order 1: their rounding enters probabilities multiplied by their size
    exact = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    # No auxiliary term: which logit is the largest may depend on the rounding.
    expected = results((*exact, targets), "reference", auxiliary=0.0)
    actual = results((x, weight, targets), kernel, auxiliary=0.0)
    for value, true in zip(actual, expected, strict=True):
        error = (value.double() - true).abs().max() / true.abs().max()
        assert error < BFLOAT16_GRADIENT


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("kernel", KERNELS)
def test_only_the_gradients_that_are_wanted_are_computed(kernel):
    x, weight, targets = case(40)
    both = results((x, weight, targets), kernel)[-2:]
    for wanted, (first, second) in enumerate(((x, weight.detach()), (x.detach(), weight))):
        loss = linear_cross_entropy(first, second, targets, auxiliary=0.3, implementation=kernel)
        (loss.total * 0.7).backward()
        grad = (first, second)[wanted].grad
        assert grad is not None
        assert_close(grad, both[wanted], **ALGEBRA)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradients_of_a_loss_used_twice_add_up(kernel):
    x, weight, targets = case(9)
    total = linear_cross_entropy(x, weight, targets, implementation=kernel).total
    (once,) = torch.autograd.grad(total, x, retain_graph=True)
    (twice,) = torch.autograd.grad(total + 2 * total, x)
    assert_close(twice, 3 * once, **ALGEBRA)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_in_float32_receive_sums_in_float32_though_products_are_narrow(kernel, monkeypatch):
    # A thousand chunks of equal gradients: a sum in bfloat16 would stop growing after 256.
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 1)
    x, weight = torch.ones(1000, 1), torch.zeros(2, 1, requires_grad=True)
    targets = torch.zeros(1000, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        linear_cross_entropy(x, weight, targets, implementation=kernel).total.backward()
    assert weight.grad is not None
    # 1/2000 a token, rounded to bfloat16.
    assert_close(weight.grad, torch.tensor([[-0.5], [0.5]]), rtol=2**-8, atol=0.0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_the_loss(value, kernel):
    x, weight, targets = case(20)
    x.data[7, 3] = value
    loss = linear_cross_entropy(x, weight, targets, auxiliary=0.1, implementation=kernel)
    assert not loss.cross_entropy.isfinite()
    assert not loss.total.isfinite()


@pytest.mark.parametrize("kernel", KERNELS)
def test_extreme_logits_are_right(kernel):
    x = torch.tensor([[1e4], [-1e4], [3e38], [0.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    targets = torch.tensor([0, 0, 0, 2])
    without = partial(linear_cross_entropy, x, weight, targets)
    loss, expected = (without(implementation=each) for each in (kernel, "reference"))
    assert_close(loss.cross_entropy, expected.cross_entropy, **FLOAT32)
    grads = (torch.autograd.grad(each.total, (x, weight)) for each in (loss, expected))
    assert_close(next(grads), next(grads), **FLOAT32)


def test_chunks_are_cut_by_memory_and_have_a_token_at_least():
    assert chunk_tokens(65536, torch.bfloat16) == 256
    assert chunk_tokens(65536, torch.float32) == 128
    assert chunk_tokens(1 << 40, torch.bfloat16) == 1
    assert chunk_tokens(2, torch.bfloat16) == 16384


@needs_library
def test_the_sum_does_not_depend_on_the_number_of_threads():
    args = case(2000, V=300, dtype=torch.float32)
    before = torch.get_num_threads()
    alone = linear_cross_entropy(*args, auxiliary=0.3)
    try:
        torch.set_num_threads(3)
        together = linear_cross_entropy(*args, auxiliary=0.3)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together.cross_entropy, alone.cross_entropy)
    assert torch.equal(together.total, alone.total)


def test_obstacles_say_what_stands_in_the_way():
    x, weight, targets = case(3, dtype=torch.float32)
    assert chunked_obstacle(x, weight, targets, 0.0, torch.bfloat16) is None
    assert "it serves products in float32" in str(
        chunked_obstacle(x, weight, targets, 0.0, torch.float16)
    )
    on_meta = x.detach().to("meta"), weight, targets, 0.0, torch.float32
    assert "a tensor is on meta" in str(native_obstacle(*on_meta))
    assert native_obstacle(x, weight, targets, 0.0, torch.float32) == library_obstacle()


def test_it_runs_on_the_meta_device():
    args = (each.detach().to("meta") for each in case(30))
    x, weight, targets = args
    loss = linear_cross_entropy(x.requires_grad_(), weight.requires_grad_(), targets)
    loss.total.backward()
    assert x.grad is not None
    assert x.grad.device.type == "meta"


@pytest.mark.parametrize("kernel", ["plain", pytest.param("native", marks=needs_library)])
@pytest.mark.parametrize("product", [torch.float32, torch.bfloat16])
def test_pytorch_finds_nothing_wrong_with_the_op(product, kernel):
    x, weight, targets = case(9, dtype=torch.float32)
    op = torch.ops.receptance.linear_cross_entropy.default
    counted = targets % 2 == 0
    for mask in (None, counted, torch.zeros_like(counted)):
        torch.library.opcheck(op, (x, weight, targets, 0.3, product, True, True, kernel, mask))
    args = (x.detach(), weight.detach(), targets, 0.3, product, False, False, kernel)
    torch.library.opcheck(op, args)


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, in inductor
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("has_mask", [False, True])
def test_it_traces_whole_under_torch_compile(dynamic, kernel, has_mask):
    def totals(x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        counted = targets % 2 == 0 if has_mask else None
        with torch.autocast("cpu", torch.bfloat16):
            return linear_cross_entropy(
                x, weight, targets, auxiliary=0.3, counted=counted, implementation=kernel
            )

    compiled = torch.compile(totals, fullgraph=True, dynamic=dynamic)
    args = case(12, dtype=torch.float32)
    expected, actual = totals(*args), compiled(*args)
    assert_close(actual, expected, **EXACT)
    for one, other in zip(
        torch.autograd.grad(expected[1], args[:2]),
        torch.autograd.grad(actual[1], args[:2]),
        strict=True,
    ):
        assert_close(one, other, **EXACT)


@needs_library
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("wants_gradient", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_instruction_set_agrees_with_the_plain_kernel(dtype, wants_gradient, instruction_set):
    generator = torch.Generator().manual_seed(1)
    for V in (1, 3, 16, 40, 333):
        logits = (4 * torch.randn(11, V, generator=generator)).to(dtype)
        targets = torch.randint(V, (11,), generator=generator)
        expected, actual = logits.clone(), logits.clone()
        costs = plain_row_gradient(expected, targets, 0.25, 0.1, wants_gradient)
        same = torch.ops.receptance.cross_entropy_(
            actual, targets, 0.25, 0.1, wants_gradient, instruction_sets()[instruction_set]
        )
        assert_close(same, costs, **FLOAT32)
        # Half a unit in the last place of bfloat16, where float32 lands on either side of it.
        narrow = Tolerance(rtol=2**-7, atol=1e-7)
        assert_close(actual, expected, **(narrow if dtype == torch.bfloat16 else FLOAT32))


@needs_library
@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_between_equal_logits_the_pull_is_on_the_first(instruction_set):
    logits = torch.zeros(1, 100) - 1
    logits[0, [23, 24, 71]] = 2.0
    number = instruction_sets()[instruction_set]
    flat = logits.clone()
    torch.ops.receptance.cross_entropy_(logits, torch.tensor([0]), 1.0, 0.5, True, number)
    torch.ops.receptance.cross_entropy_(flat, torch.tensor([0]), 1.0, 0.0, True, number)
    assert_close((logits - flat).nonzero(), torch.tensor([[0, 23]]))
    assert_close((logits - flat)[0, 23], torch.tensor(1.0))


@needs_library
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"logits": torch.zeros(3)}, "must be contiguous and have the shape"),
        ({"logits": torch.zeros(4, 2).t()}, "must be contiguous and have the shape"),
        ({"logits": torch.zeros(2, 4).half()}, "must have the dtype Float, BFloat16 or Double"),
        ({"targets": torch.zeros(3).long()}, r"`targets` must have the shape \[2\], got \[3\]"),
        ({"targets": torch.zeros(2)}, "`targets` must have the dtype Long"),
        ({"targets": torch.tensor([0, -1])}, r"`targets` must lie in \[0, 4\), got -1"),
        ({"instruction_set": 9}, "`instruction_set` must be 0 .* got 9"),
    ],
)
def test_the_kernels_op_refuses_what_it_cannot_read(wrong, message):
    arguments: dict[str, Any] = {
        "logits": torch.zeros(2, 4),
        "targets": torch.zeros(2).long(),
        "scale": 1.0,
        "auxiliary": 0.0,
        "wants_gradient": True,
        **wrong,
    }
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.cross_entropy_(**arguments)


@needs_build
def test_the_kernel_stays_within_its_arrays():
    done = subprocess.run(
        [BUILD / "test_cross_entropy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    for name in instruction_sets():
        assert f"cross_entropy {name}" in done.stdout

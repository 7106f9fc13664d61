"""What `linear_cross_entropy` promises whichever implementation runs: dtypes, checks."""

import re

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.errors import ImplementationUnavailableError
from receptance.ops.linear_cross_entropy import IMPLEMENTATIONS, linear_cross_entropy
from receptance.ops.native import library_obstacle
from tests.tolerances import ALGEBRA, EXACT, FLOAT32

N, C, V = 6, 4, 9
NAMES = [each.name for each in IMPLEMENTATIONS]


def arguments(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, C, generator=generator).to(dtype)
    weight = torch.randn(V, C, generator=generator).to(dtype)
    return x, weight, torch.randint(V, (N,), generator=generator)


@pytest.fixture(params=[each for each in NAMES if each != "triton"])  # which has its own tests
def implementation(request) -> str:
    if request.param == "native" and library_obstacle() is not None:
        pytest.skip("the extension is not installed")
    return request.param


def test_the_implementations_are_fastest_first_and_the_reference_is_always_there():
    assert NAMES == ["native", "triton", "chunked", "reference"]
    args = (*arguments(torch.float16), 0.0, torch.float16)
    assert IMPLEMENTATIONS[-1].obstacle(*args) is None


@pytest.mark.parametrize(
    ("dtype", "sums"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_means_are_float32_or_wider_and_gradients_as_their_inputs(implementation, dtype, sums):
    x, weight, targets = arguments(dtype)
    x.requires_grad_()
    weight.requires_grad_()
    loss = linear_cross_entropy(x, weight, targets, auxiliary=0.1, implementation=implementation)
    loss.total.backward()
    assert loss.cross_entropy.dtype == loss.total.dtype == sums
    assert x.grad is not None
    assert weight.grad is not None
    assert x.grad.dtype == weight.grad.dtype == dtype


def test_under_autocast_products_are_in_its_dtype_and_gradients_in_the_weights(implementation):
    x, weight, targets = arguments()
    weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(x, weight, targets, implementation=implementation)
    loss.total.backward()
    rounded = x.bfloat16(), weight.detach().bfloat16()
    expected = linear_cross_entropy(*rounded, targets, implementation=implementation)
    assert torch.equal(loss.cross_entropy, expected.cross_entropy)
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_float64_stays_float64_under_autocast(implementation):
    args = arguments(torch.float64)
    expected = linear_cross_entropy(*args, implementation=implementation)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(linear_cross_entropy(*args, implementation=implementation), expected, **EXACT)


def test_the_reported_mean_carries_no_gradient(implementation):
    x, weight, targets = arguments()
    loss = linear_cross_entropy(
        x.requires_grad_(), weight, targets, auxiliary=0.1, implementation=implementation
    )
    assert not loss.cross_entropy.requires_grad
    assert loss.total.requires_grad


def test_without_gradients_wanted_the_means_are_the_same(implementation):
    x, weight, targets = arguments()
    loss = linear_cross_entropy(
        x.requires_grad_(), weight, targets, auxiliary=0.1, implementation=implementation
    )
    with torch.no_grad():
        again = linear_cross_entropy(
            x, weight, targets, auxiliary=0.1, implementation=implementation
        )
    assert not again.total.requires_grad
    assert_close(again, loss, **EXACT)


def test_no_argument_is_changed(implementation):
    args = arguments()
    copies = [each.clone() for each in args]
    args[0].requires_grad_()
    linear_cross_entropy(*args, auxiliary=0.1, implementation=implementation).total.backward()
    assert all(torch.equal(a, b) for a, b in zip(args, copies, strict=True))


def test_memory_layout_and_the_dtype_of_targets_do_not_matter(implementation):
    x, weight, targets = arguments()
    expected = linear_cross_entropy(x, weight, targets, implementation=implementation)
    strided = x.t().contiguous().t(), weight.t().contiguous().t(), targets.int()
    loss = linear_cross_entropy(*strided, implementation=implementation)
    assert_close(loss, expected, **FLOAT32)


def test_an_implementation_that_cannot_run_says_why_and_auto_takes_another():
    args = arguments(torch.float16)
    with pytest.raises(ImplementationUnavailableError) as caught:
        linear_cross_entropy(*args, implementation="chunked")
    assert str(caught.value) == (
        "no implementation of linear_cross_entropy can run these tensors (chunked: it serves "
        "products in float32, bfloat16 and float64, and they are in torch.float16)"
    )
    loss = linear_cross_entropy(*args)
    assert_close(loss, linear_cross_entropy(*args, implementation="reference"), **EXACT)


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match="implementation") as caught:
        linear_cross_entropy(*arguments(), implementation="fast")
    assert str(caught.value) == (
        "`implementation` must be one of ['auto', 'native', 'triton', 'chunked', 'reference'] for "
        "linear_cross_entropy, got 'fast'"
    )


X, W, T = torch.zeros(N, C), torch.zeros(V, C), torch.zeros(N, dtype=torch.int64)
WRONG_SHAPES = {
    "x": (
        (X[None], W, T),
        "`x` and `weight` must have the shapes [N, C] and [V, C], got [1, 6, 4] and [9, 4]",
    ),
    "weight": ((X, W[:, 1:], T), "have the shapes [N, C] and [V, C], got [6, 4] and [9, 3]"),
    "targets": (
        (X, W, T[1:]),
        "`targets` must have one entry for each of at least one row of `x`, [6, 4], got [5]",
    ),
    "nothing": ((X[:0], W, T[:0]), "of at least one row of `x`, [0, 4], got [0]"),
}


@pytest.mark.unhooked
@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_shapes_that_do_not_fit_are_refused(wrong):
    args, message = WRONG_SHAPES[wrong]
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_cross_entropy(*args)


def test_a_target_outside_of_the_vocabulary_is_refused(implementation):
    x, weight, targets = arguments()
    targets[2] = V
    with pytest.raises((RuntimeError, IndexError), match=f"({V}.*must|must.*{V}|Target {V})"):
        linear_cross_entropy(x, weight, targets, implementation=implementation)


def test_the_docstring_is_enough_to_write_it_again():
    assert linear_cross_entropy.__doc__ is not None
    for phrase in (
        "cross_entropy = mean_n (log sum_j exp(l_nj) - l_n,target)",
        "total         = cross_entropy + auxiliary / 2 mean_n (max_j l_nj)²",
    ):
        assert phrase in linear_cross_entropy.__doc__


@pytest.mark.parametrize("counts", [[0, 1, 1, 0, 0, 1], [1] * N], ids=["some", "all"])
def test_means_are_over_the_tokens_that_count(implementation, counts):
    counted = torch.tensor(counts) == 1
    x, weight, targets = arguments(torch.float64)
    leaves = [(x.clone().requires_grad_(), weight.clone().requires_grad_()) for _ in range(2)]
    loss = linear_cross_entropy(
        *leaves[0], targets, auxiliary=0.1, counted=counted, implementation=implementation
    )
    x_of_some, weight_of_some = leaves[1]
    expected = linear_cross_entropy(
        x_of_some[counted],
        weight_of_some,
        targets[counted],
        auxiliary=0.1,
        implementation="reference",
    )
    assert_close(loss[:2], expected[:2], **ALGEBRA)
    assert_close(loss.costs[counted], expected.costs, **ALGEBRA)
    assert not loss.costs[~counted].any()
    assert not loss.costs.requires_grad
    assert_close(loss.costs.sum() / counted.sum(), loss.cross_entropy, **ALGEBRA)
    loss.total.backward()
    expected.total.backward()
    for one, other in zip(*leaves, strict=True):
        assert_close(one.grad, other.grad, **ALGEBRA)


def test_where_no_token_counts_loss_and_gradients_are_zero(implementation):
    x, weight, targets = arguments()
    x.requires_grad_()
    weight.requires_grad_()
    counted = torch.zeros(N, dtype=torch.bool)
    loss = linear_cross_entropy(
        x, weight, targets, auxiliary=0.1, counted=counted, implementation=implementation
    )
    loss.total.backward()
    assert loss.cross_entropy.item() == loss.total.item() == 0
    assert not loss.costs.any()
    assert x.grad is not None
    assert weight.grad is not None
    assert not x.grad.any()
    assert not weight.grad.any()


@pytest.mark.unhooked
def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"`counted` must have one entry for each row of `x`"):
        linear_cross_entropy(*arguments(), counted=torch.ones(N + 1, dtype=torch.bool))

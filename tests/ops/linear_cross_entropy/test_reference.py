"""The reference of `linear_cross_entropy` beside the written sum, number by number."""

import math

import torch
from torch.testing import assert_close

from receptance.ops.linear_cross_entropy.reference import linear_cross_entropy_reference
from tests.tolerances import ALGEBRA, GRADIENT


def case(N: int = 3, C: int = 4, V: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(N, C, dtype=torch.float64, generator=generator)
    weight = torch.randn(V, C, dtype=torch.float64, generator=generator)
    return x, weight, torch.randint(V, (N,), generator=generator)


def test_both_means_are_the_written_sums():
    x, weight, targets = case()
    rows = (x @ weight.t()).tolist()
    expected_costs = [
        math.log(sum(map(math.exp, row))) - row[target]
        for row, target in zip(rows, targets.tolist(), strict=True)
    ]

    cross_entropy, total, costs = linear_cross_entropy_reference(
        x, weight, targets, 0.3, torch.float64
    )

    expected = torch.tensor(sum(expected_costs) / 3, dtype=torch.float64)
    squares = torch.tensor(sum(max(row) ** 2 for row in rows) / 3, dtype=torch.float64)
    assert_close(cross_entropy, expected, **ALGEBRA)
    assert_close(costs, torch.tensor(expected_costs, dtype=torch.float64), **ALGEBRA)
    assert_close(total, expected + 0.15 * squares, **ALGEBRA)


def test_the_gradient_is_softmax_minus_the_target_and_a_pull_on_the_largest():
    x, weight, targets = (each.detach() for each in case())
    leaves = x.requires_grad_(), weight.requires_grad_()

    _, total, _ = linear_cross_entropy_reference(*leaves, targets, 0.3, torch.float64)
    to_x, to_weight = torch.autograd.grad(total, leaves)

    logits = (x @ weight.t()).detach()
    to_logits = logits.softmax(dim=-1)
    for n, target in enumerate(targets.tolist()):
        to_logits[n, target] -= 1
        to_logits[n, logits[n].argmax()] += 0.3 * logits[n].max()
    assert_close(to_x, to_logits @ weight.detach() / 3, **GRADIENT)
    assert_close(to_weight, to_logits.t() @ x.detach() / 3, **GRADIENT)


def test_the_reported_mean_carries_no_gradient():
    x, weight, targets = case()
    cross_entropy, total, costs = linear_cross_entropy_reference(
        x.requires_grad_(), weight, targets, 0.0, torch.float64
    )
    assert not cross_entropy.requires_grad
    assert not costs.requires_grad
    assert total.requires_grad


def test_bfloat16_products_are_summed_in_float32():
    x, weight, targets = case()
    cross_entropy, total, costs = linear_cross_entropy_reference(
        x, weight, targets, 0.1, torch.bfloat16
    )
    assert cross_entropy.dtype == total.dtype == costs.dtype == torch.float32

"""The loss is the cross-entropy, and its second part has the gradient of the authors' code."""

import math

import pytest
import torch
from torch.nn import functional as F

from receptance.ops.native import library_obstacle
from receptance.training import language_model_loss
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import ALGEBRA


class L2Wrap(torch.autograd.Function):
    """The authors' code, RWKV-v4neo/src/model.py, word for word but for its names."""

    @staticmethod
    def forward(ctx, loss, y):
        ctx.save_for_backward(y)
        return loss

    @staticmethod
    def backward(ctx, *grad_outputs):
        (y,) = ctx.saved_tensors
        factor = 1e-4 / (y.shape[0] * y.shape[1])
        maxx, ids = torch.max(y, -1, keepdim=True)
        gy = torch.zeros_like(y)
        gy.scatter_(-1, ids, maxx * factor)
        return *grad_outputs, gy


def random_logits(*shape: int, scale: float = 20.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


def loss_of_logits(logits: torch.Tensor, targets: torch.Tensor, *, auxiliary: float):
    """Return the loss of a head that passes on what it reads."""
    head = torch.eye(logits.shape[-1], dtype=logits.dtype)
    return language_model_loss(logits, head, targets, auxiliary=auxiliary)


def test_the_cross_entropy_is_the_mean_of_minus_log_probability():
    logits, targets = random_logits(2, 3, 5), random_tokens(2, 3, 5)
    rows = zip(logits.flatten(0, 1).tolist(), targets.flatten().tolist(), strict=True)
    costs = [math.log(sum(math.exp(x) for x in row)) - row[target] for row, target in rows]

    loss = loss_of_logits(logits, targets, auxiliary=0.0)

    assert loss.cross_entropy.item() == pytest.approx(sum(costs) / 6, rel=1e-12)
    assert torch.equal(loss.total, loss.cross_entropy)


def test_the_auxiliary_loss_is_half_the_mean_square_of_the_largest_logits():
    logits, targets = random_logits(2, 3, 5), random_tokens(2, 3, 5)

    loss = loss_of_logits(logits, targets, auxiliary=0.3)
    without = loss_of_logits(logits, targets, auxiliary=0.0)

    added = 0.15 * logits.amax(-1).square().mean()
    torch.testing.assert_close(loss.cross_entropy, without.cross_entropy, rtol=0, atol=0)
    torch.testing.assert_close(loss.total, without.total + added, **ALGEBRA)


@pytest.mark.parametrize("logits", [random_logits(3, 4, 7), torch.full((3, 4, 7), 3.0).double()])
def test_its_gradient_is_that_of_the_authors_l2wrap_even_between_equal_logits(logits):
    ours = logits.clone().requires_grad_()
    theirs = logits.clone().requires_grad_()
    targets = random_tokens(3, 4, 7)

    loss_of_logits(ours, targets, auxiliary=1e-4).total.backward()
    L2Wrap.apply(F.cross_entropy(theirs.flatten(0, 1), targets.flatten()), theirs).backward()

    torch.testing.assert_close(ours.grad, theirs.grad, **ALGEBRA)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_accumulated_over_parts_of_a_batch_it_is_the_gradient_of_the_whole(micro):
    model = random_rwkv4(n_layer=2, n_embd=12)
    tokens, targets = random_tokens(8, 6), random_tokens(8, 6, seed=2)

    def gradients(size: int) -> list[torch.Tensor]:
        model.zero_grad()
        for row in range(0, 8, size):
            x, _ = model.features(tokens[row : row + size])
            part = targets[row : row + size]
            loss = language_model_loss(x, model.head.weight, part, auxiliary=1e-2)
            (loss.total * size / 8).backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    # 1e-6: float32 sums in another order, of gradients whose norm is of order 1.
    torch.testing.assert_close(gradients(micro), gradients(8), rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))
def test_no_tensor_is_as_large_as_the_logits_of_the_batch():
    # Logits of 4096 tokens would have 512 MiB in float32; a chunk in bfloat16 has 32.
    x, head = torch.randn(1, 4096, 8), torch.randn(32768, 8)
    targets = random_tokens(1, 4096, 32768)
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.profiler.profile(profile_memory=True) as profiled,
    ):
        loss = language_model_loss(
            x.requires_grad_(), head.requires_grad_(), targets, auxiliary=1e-4
        )
    loss.total.backward()
    largest = max(each.self_cpu_memory_usage for each in profiled.events() or [])
    assert largest <= 32 << 20

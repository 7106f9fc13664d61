"""The loss of a rounded head is that of its logits, of which few exist at a time."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from receptance.ops.linear_cross_entropy import chunked, quantized_linear_cross_entropy
from receptance.ops.linear_cross_entropy.quantized import quantized_chunk_tokens
from receptance.ops.quantized_linear import (
    QuantizedFormat,
    QuantizedWeight,
    pack_weight,
    quantized_linear,
)

N, C, V = 50, 40, 37


def case(bits: int) -> tuple[Tensor, QuantizedWeight, Tensor]:
    generator = torch.Generator().manual_seed(bits)
    x = torch.randn(N, C, generator=generator)
    levels = torch.randint(1, 16, (V, C), generator=generator, dtype=torch.uint8)
    scales = 0.1 * torch.rand(V, 2, generator=generator)
    weight = pack_weight(levels, scales, None, QuantizedFormat(bits, 32))
    return x.requires_grad_(), weight, torch.randint(V, (N,), generator=generator)


@pytest.fixture(params=[16, 1000])
def _chunks(request, monkeypatch) -> None:
    """Give a chunk 16 tokens or more than there are."""
    monkeypatch.setattr(chunked, "CHUNK_BYTES", request.param * V * 2)
    assert quantized_chunk_tokens(V) == request.param


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_it_is_the_loss_of_all_logits_and_so_is_its_gradient(bits, share):
    x, weight, targets = case(bits)
    counted = torch.rand(N, generator=torch.Generator().manual_seed(0)) < share

    found = quantized_linear_cross_entropy(x, weight, targets, 0.3, counted)
    (gradient,) = torch.autograd.grad(0.7 * found[1], x)

    if share == 0:
        assert (found[0].item(), found[1].item(), gradient.abs().sum().item()) == (0, 0, 0)
        assert not found[2].any()
        return
    logits = quantized_linear(x[counted], weight)
    expected = F.cross_entropy(logits, targets[counted])
    total = expected + 0.15 * logits.amax(-1).square().mean()
    assert_close(found[0], expected)
    assert_close(found[1], total)
    costs = torch.zeros(N)
    costs[counted] = F.cross_entropy(logits, targets[counted], reduction="none").detach()
    assert_close(found[2], costs)
    assert_close(gradient, *torch.autograd.grad(0.7 * total, x))


def test_all_tokens_count_unless_some_are_named():
    x, weight, targets = case(8)
    everyone = torch.ones(N, dtype=torch.bool)
    for found, expected in zip(
        quantized_linear_cross_entropy(x, weight, targets, 0.3),
        quantized_linear_cross_entropy(x, weight, targets, 0.3, everyone),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_only_the_total_has_a_gradient():
    x, weight, targets = case(8)
    cross_entropy, total, costs = quantized_linear_cross_entropy(x, weight, targets, 0.3)
    assert not cross_entropy.requires_grad
    assert not costs.requires_grad
    assert total.requires_grad
    with torch.no_grad():
        assert_close(quantized_linear_cross_entropy(x, weight, targets, 0.3)[1], total)


@pytest.mark.usefixtures("_chunks")
def test_pytorch_finds_nothing_wrong_with_the_op():
    x, weight, targets = case(4)
    arguments = (x, weight.data, V, 4, 32, False, targets, 0.3, torch.float32, True)
    torch.library.opcheck(torch.ops.receptance.quantized_linear_cross_entropy.default, arguments)

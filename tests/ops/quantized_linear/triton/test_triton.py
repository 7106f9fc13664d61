"""Triton's `quantized_linear`: its choice, its gradient, its place in PyTorch."""

import torch
from torch.testing import assert_close

from receptance.ops.quantized_linear import (
    IMPLEMENTATIONS,
    QuantizedFormat,
    QuantizedWeight,
    dequantize,
    pack_weight,
    quantized_linear,
)
from receptance.ops.quantized_linear.triton import (
    quantized_linear_obstacle,
    quantized_linear_triton,
    rows_of_program,
)


def packed(device: str) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 16, (5, 40), generator=generator, dtype=torch.uint8)
    weight = pack_weight(
        levels, torch.rand(5, 2, generator=generator), None, QuantizedFormat(4, 32)
    )
    return QuantizedWeight(weight.data.to(device), weight.format, 5, 40)


def test_the_implementations_are_fastest_first():
    assert [each.name for each in IMPLEMENTATIONS] == ["native", "triton", "reference"]


def test_a_tensor_on_the_cpu_is_refused():
    obstacle = quantized_linear_obstacle(torch.zeros(2, 40), packed("cpu"))
    assert obstacle == "it runs on a GPU, and a tensor is on cpu"


def test_few_rows_take_a_small_program():
    assert [rows_of_program(M) for M in (1, 16, 17, 5000)] == [16, 16, 64, 64]


def test_rows_of_any_shape_and_stride_are_read_right(triton_device):
    x = torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(1)).to(triton_device)
    weight = packed(triton_device)
    found = quantized_linear(x.permute(2, 1, 0), weight, implementation="triton")
    expected = quantized_linear(x.permute(2, 1, 0), weight, implementation="reference")
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert quantized_linear_triton(x[:0].view(0, 40), weight).shape == (0, 5)


def test_the_gradient_is_as_if_x_were_not_rounded(triton_device):
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(1)).to(triton_device)
    weight = packed(triton_device)
    y = quantized_linear(x.requires_grad_(), weight, implementation="triton")
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert_close(grad, dequantize(weight).sum(dim=0).expand(3, 40), rtol=1e-5, atol=1e-5)


def test_pytorch_finds_nothing_wrong_with_the_op(triton_device):
    weight, x = packed(triton_device), torch.randn(3, 40).to(triton_device)
    op = torch.ops.receptance.quantized_linear_triton.default
    torch.library.opcheck(op, (x, weight.data, 5, 4, 32, False))

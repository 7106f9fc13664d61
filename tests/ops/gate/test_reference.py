"""The definitions of the gates beside their equations."""

import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.gate import gate, gated_add
from tests.tolerances import ALGEBRA


def normal(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)


def test_a_gate_lets_through_the_logistic_share():
    r, y = normal(0), normal(1)
    expected = y / (1 + torch.exp(-r))
    assert_close(gate(r, y, implementation="reference"), expected, **ALGEBRA)


def test_what_is_added_to_the_stream_may_pass_a_gate():
    x, r, y = normal(0), normal(1), normal(2)
    expected = x + y / (1 + torch.exp(-r))
    assert_close(gated_add(x, y, r, implementation="reference"), expected, **ALGEBRA)
    assert_close(gated_add(x, y, implementation="reference"), x + y, **ALGEBRA)

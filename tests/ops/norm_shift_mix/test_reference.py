"""The definition of `norm_shift_mix` beside the equations, written out token by token."""

import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.norm_shift_mix import norm_shift_mix
from tests.tolerances import ALGEBRA

B, T, C = 2, 7, 5
EPS = 0.3  # large, so that leaving it out would show


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def reference(x: Tensor, x_last: Tensor, resets: Tensor | None = None):
    return norm_shift_mix(
        x,
        normal(C, seed=2),
        normal(C, seed=3),
        (normal(1, 1, C, seed=4), normal(C, seed=5)),
        x_last,
        eps=EPS,
        resets=resets,
        implementation="reference",
    )


def test_it_is_the_equations():
    x, x_last = normal(B, T, C, seed=0), normal(B, C, seed=1)
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[0, 3] = resets[1, 0] = True
    (first, second), last = reference(x, x_last, resets)

    weight, bias = normal(C, seed=2), normal(C, seed=3)
    for b in range(B):
        n_prev = x_last[b]
        for t in range(T):
            centred = x[b, t] - x[b, t].sum() / C
            n = centred / torch.sqrt((centred**2).sum() / C + EPS) * weight + bias
            if resets[b, t]:
                n_prev = torch.zeros(C, dtype=torch.float64)
            for mixed, mix in ((first, normal(C, seed=4)), (second, normal(C, seed=5))):
                assert_close(mixed[b, t], mix * n + (1 - mix) * n_prev, **ALGEBRA)
            n_prev = n
        assert_close(last[b], n_prev, **ALGEBRA)


def test_splitting_a_sequence_changes_nothing():
    x, x_last = normal(B, T, C, seed=0), normal(B, C, seed=1)
    whole, last = reference(x, x_last)
    pieces = []
    for begin, end in ((0, 1), (1, 1), (1, 4), (4, T)):
        mixed, x_last = reference(x[:, begin:end], x_last)
        pieces.append(mixed)
    for i, each in enumerate(whole):
        assert_close(torch.cat([mixed[i] for mixed in pieces], dim=1), each, **ALGEBRA)
    assert_close(x_last, last, **ALGEBRA)

"""The machine's peak is measured in the arithmetic that was asked for."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from receptance.training import peak
from receptance.training.peak import peak_flops_per_s


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(peak.SIZES, "cpu", 256)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_is_a_rate_of_this_machine(precision):
    assert 1e6 < peak_flops_per_s(precision, budget_s=0.0) < 1e16


def test_within_its_budget_it_runs_at_least_two_products():
    with FlopCounterMode(display=False) as counter:
        peak_flops_per_s("float32", budget_s=0.0)

    assert counter.get_total_flops() == 2 * 2 * 256**3


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_its_matrices_have_the_precision_of_the_run(monkeypatch, precision, dtype):
    seen = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda a, b: seen.append((a.dtype, b.dtype)) or linear(a, b)
    )

    peak_flops_per_s(precision, budget_s=0.0)

    assert set(seen) == {(dtype, dtype)}

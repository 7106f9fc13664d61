"""The machine's peak is measured in the arithmetic that was asked for."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from receptance.training.metrics import peak
from receptance.training.metrics.peak import PRODUCTS_A_SIZE, peak_flops_per_s


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_is_a_rate_of_this_machine(precision):
    assert 1e6 < peak_flops_per_s(precision, budget_s=0.0) < 1e16


@pytest.mark.parametrize("budget_s", [0.0, 1e-9])
def test_without_time_only_the_smallest_products_are_measured(budget_s):
    with FlopCounterMode(display=False) as counter:
        peak_flops_per_s("float32", budget_s=budget_s)

    # One more goes first, not counted in the rate.
    assert counter.get_total_flops() == (1 + PRODUCTS_A_SIZE) * 2 * 512**3


def test_with_time_larger_ones_are_too(monkeypatch):
    monkeypatch.setattr(peak, "SIZES", (64, 128, 256))
    with FlopCounterMode(display=False) as counter:
        peak_flops_per_s("float32", budget_s=3600.0)

    measured = PRODUCTS_A_SIZE * 2 * (64**3 + 128**3 + 256**3)
    assert counter.get_total_flops() == 2 * 64**3 + measured


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


def test_on_a_gpu_its_memory_is_given_back_and_not_counted_in_the_most(monkeypatch):
    """Or the least that a run could tell would be what its yardstick took."""
    seen = []
    matrices = peak._matrices
    monkeypatch.setattr(peak, "_matrices", lambda n, dtype, _: matrices(n, dtype, "cpu"))
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *given, name=name: seen.append((name, *given)))

    peak_flops_per_s("float32", budget_s=0.0)
    assert seen == []
    peak_flops_per_s("float32", "cuda", budget_s=0.0)
    assert seen == [("empty_cache",), ("reset_peak_memory_stats", "cuda")]

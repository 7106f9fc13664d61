"""Where memory does not suffice it is said how much was wanted, and how much there is."""

import pytest
import torch

from receptance.errors import MemoryShortageError
from receptance.ops import shortage
from receptance.ops.shortage import explain_shortage, explaining_shortage

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
OF_GPU = (
    "CUDA out of memory. Tried to allocate {}. GPU 1 has a total capacity of 139.81 GiB of which "
    "1.20 GiB is free."
)


@pytest.fixture(autouse=True)
def _little_there(monkeypatch):
    there = {"cpu": 3 * 10**9, "cuda": 10**9}
    monkeypatch.setattr(shortage, "available_bytes", lambda device: there[device.type])


@pytest.mark.parametrize("n_bytes", [2**52, 2**53])
def test_pytorchs_own_refusal_on_the_cpu_is_understood(n_bytes):
    with (
        pytest.raises(MemoryShortageError) as raised,
        explaining_shortage("a test", GPU, lambda: "want less"),
    ):
        torch.empty(n_bytes, dtype=torch.uint8)
    assert str(raised.value) == (
        f"a test must have another {n_bytes / 1e9:,.3f} GB of memory on cpu, but 3.000 GB are "
        "available; want less"
    )
    assert isinstance(raised.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (OF_GPU.format("2.00 GiB"), "another 2.147 GB of"),
        (OF_GPU.format("512.00 MiB"), "another 0.537 GB of"),
        ("HIP out of memory. Tried to allocate 1.50 TiB.", "another 1,649.267 GB of"),
        ("CUDA out of memory.", "more"),
    ],
)
def test_a_gpu_of_any_vendor_says_how_much_it_was_asked_for(said, wanted):
    assert explain_shortage(torch.OutOfMemoryError(said), "a test", GPU) == (
        f"a test must have {wanted} memory on cuda:1, but 1.000 GB are available"
    )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_who_does_not_say_how_much_wanted_more(error):
    said = explain_shortage(error, "a test", GPU)
    assert said == "a test must have more memory on cpu, but 3.000 GB are available"


def test_where_nobody_knows_what_there_is_that_is_not_said(monkeypatch):
    monkeypatch.setattr(shortage, "available_bytes", lambda _: None)
    said = explain_shortage(MemoryError(), "a test", CPU)
    assert said == "a test must have more memory on cpu, but there is not"


def test_another_error_stays_what_it_was():
    assert explain_shortage(ValueError("Tried to allocate 2.00 GiB"), "a test", CPU) is None
    with (
        pytest.raises(RuntimeError, match=r"^another$"),
        explaining_shortage("a test", CPU, lambda: ""),
    ):
        raise RuntimeError("another")

"""What this machine can do at most: the speed of one large matrix product, measured."""

import time

import torch

SIZES = {"cpu": 2048, "cuda": 8192}
"""n of the product of two n × n matrices, large enough that only arithmetic counts: 17 and 1100
GFLOP."""


def peak_flops_per_s(precision: str, device: str = "cpu", *, budget_s: float = 1.0) -> float:
    """Return the FLOP/s of the fastest of several products C = A B^T, with C and A, B n × n.

    A product has 2 n³ operations. It runs with PyTorch's threads of this process, so where several
    processes share the machine each should measure at the same time as the others.

    Args:
        precision: "bfloat16" or "float32", as `training.precision` names it.
        device: The type of device, "cpu" or "cuda".
        budget_s: After so many seconds no further product is begun; two are run in any case.
    """
    n = SIZES[device]
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    fastest_s, n_runs = float("inf"), 0
    began = time.perf_counter()
    while n_runs < 2 or time.perf_counter() - began < budget_s:
        fastest_s = min(fastest_s, _product_s(a, b))
        n_runs += 1
    return 2 * n**3 / fastest_s


def _product_s(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the seconds that A B^T takes."""
    _wait(a.device)
    began = time.perf_counter()
    with torch.no_grad():
        torch.nn.functional.linear(a, b)
    _wait(a.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    """Wait for what was given to a device that works while this process goes on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

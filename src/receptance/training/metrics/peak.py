"""What this machine can do at most: the speed of large matrix products, measured."""

import time

import torch

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
"""n of the products of two n × n matrices. Which is the fastest depends on the machine: the first
fits in the cache of one core, the last keeps a large GPU at work."""
PRODUCTS_A_SIZE = 4


def peak_flops_per_s(precision: str, device: str = "cpu", *, budget_s: float = 0.3) -> float:
    """Return the FLOP/s of the fastest of several products A B^T of n × n matrices.

    A product has 2 n³ operations. It runs with PyTorch's threads of this process, so where several
    processes share the machine each should measure at the same time as the others.

    On a GPU the memory for it is given back, and is forgotten in the most that was held.

    Args:
        precision: "bfloat16" or "float32", as `training.precision` names it.
        device: The type of device, "cpu" or "cuda".
        budget_s: How long it may take. The smallest size is measured in any case, and a larger one
            where, by the time of the one before, it will be done in time.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    # A GPU's first product loads its library, for longer than all others take.
    _product_s(*_matrices(SIZES[0], dtype, device))
    end = time.perf_counter() + budget_s
    peak = 0.0
    for n in SIZES:
        fastest_s = _fastest_s(n, dtype, device)
        peak = max(peak, 2 * n**3 / fastest_s)
        if time.perf_counter() + 8 * PRODUCTS_A_SIZE * fastest_s > end:
            break
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return peak


def _fastest_s(n: int, dtype: torch.dtype, device: str) -> float:
    """Return the seconds of the fastest product of two n × n matrices."""
    a, b = _matrices(n, dtype, device)
    return min(_product_s(a, b) for _ in range(PRODUCTS_A_SIZE))


def _matrices(n: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two matrices; of random numbers on a GPU, which multiplies equal ones faster."""
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    return (a, b) if a.is_cpu else (a.normal_(), b.normal_())


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

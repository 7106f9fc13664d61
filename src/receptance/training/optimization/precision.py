"""The arithmetic of a run's matrix products."""

import torch


def autocast(precision: str, device: str = "cpu") -> torch.autocast:
    """Return the context in which matrix products are computed in `precision`.

    Weights, their moments, the norms, the token shift and the WKV are float32 inside it and
    outside: only what enters and leaves a matrix is rounded.

    Args:
        precision: "bfloat16" or "float32".
        device: The type of device that computes.
    """
    # A matrix enters one product a forward, so a cache of rounded ones would only hold memory.
    return torch.autocast(
        device, dtype=torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )

"""The states of all random number generators, as JSON."""

import random
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Return the states of the generators of Python, NumPy, PyTorch, and each CUDA device in use.

    They are lists and texts, which JSON keeps bit for bit.
    """
    version, numbers, gauss = random.getstate()
    legacy = np.random.get_state(legacy=False)
    assert isinstance(legacy, dict)  # that is what `legacy=False` asks for
    inner = legacy["state"]
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": [version, list(numbers), gauss],
        "numpy": {
            **{key: legacy[key] for key in ("bit_generator", "has_gauss", "gauss")},
            "state": {"key": inner["key"].tolist(), "pos": inner["pos"]},
        },
        "torch": _text(torch.get_rng_state()),
        "cuda": [_text(state) for state in on_devices],
    }


def seed_random_states(seed: int) -> None:
    """Set the generators to where a new run begins, so that it begins the same each time.

    Args:
        seed: From 0 to 2^63 - 1; NumPy's generator takes its last 32 bits.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_random_states(states: dict[str, Any]) -> None:
    """Set the generators to what `random_states` gave; devices that are not here are passed over.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: If `states` is not what it gave.
    """
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    inner = states["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": inner["pos"]}})
    torch.set_rng_state(_tensor(states["torch"]))
    n_devices = torch.cuda.device_count() if states["cuda"] else 0
    for device, state in enumerate(states["cuda"][:n_devices]):
        torch.cuda.set_rng_state(_tensor(state), device)


def _text(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)

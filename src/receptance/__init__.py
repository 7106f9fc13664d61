"""RWKV language models: trained, run and measured by one package."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from receptance.data import prepare
    from receptance.errors import ReceptanceError
    from receptance.inference import (
        Engine,
        Generation,
        LanguageModel,
        Request,
        SamplingParams,
        load,
    )
    from receptance.models import RWKV4, RWKV4Config, State
    from receptance.tokenizer import load_tokenizer

__all__ = [
    "RWKV4",
    "Engine",
    "Generation",
    "LanguageModel",
    "RWKV4Config",
    "ReceptanceError",
    "Request",
    "SamplingParams",
    "State",
    "load",
    "load_tokenizer",
    "prepare",
]

# The room of each public name. It is imported when the name is first used, since importing torch
# takes over a second.
_ROOMS = {
    "RWKV4": "models",
    "Engine": "inference",
    "Generation": "inference",
    "LanguageModel": "inference",
    "RWKV4Config": "models",
    "ReceptanceError": "errors",
    "Request": "inference",
    "SamplingParams": "inference",
    "State": "models",
    "load": "inference",
    "load_tokenizer": "tokenizer",
    "prepare": "data",
}


def __getattr__(name: str) -> Any:
    """Import the room of a public name (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'receptance' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"receptance.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__

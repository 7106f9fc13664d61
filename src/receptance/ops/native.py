"""The native extension: whether it is there, and what it can run on this processor.

The extension is one shared library beside this file, put there by `make setup` or by the wheel. It
is loaded once, when this module is imported; without it the package works, through the reference
implementations. A library that is there but cannot be loaded is an error, not an absence.
"""

from pathlib import Path

import torch

__all__ = ["instruction_sets", "library_obstacle"]

LIBRARY = Path(__file__).with_name("libreceptance_native.so")

_OBSTACLE = (
    None
    if LIBRARY.is_file()
    else f"the extension is not built, {LIBRARY} does not exist; build it with: make setup"
)
if _OBSTACLE is None:
    torch.ops.load_library(LIBRARY)


def library_obstacle() -> str | None:
    """Return why the extension cannot be used, as a clause, or None if it can."""
    return _OBSTACLE


def instruction_sets() -> dict[str, int]:
    """Return the instruction sets that kernels can use here, narrowest first.

    Returns:
        The name of each ("portable", "avx2", "avx512"), with the number that the ops take it by.
        Ops use the last one unless told otherwise. Empty without the extension.
    """
    if _OBSTACLE is not None:
        return {}
    pairs = (each.split("=") for each in torch.ops.receptance.instruction_sets().split())
    return {name: int(number) for name, number in pairs}

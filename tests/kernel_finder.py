"""How Triton's kernels are imported in tests: as they are.

The hook that checks shapes decorates every function of the package. Triton reads the source of a
kernel and compiles it, and knows nothing of what a decorator put around it.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class KernelFinder:
    """A finder that answers for modules of kernels, `….triton.kernels`, and only for those."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of kernels is, as Python itself finds it, or None for another."""
        return (
            PathFinder.find_spec(name, path, target) if name.endswith(".triton.kernels") else None
        )


def leave_kernels_alone() -> None:
    """Ask the finder of kernels before any hook; must be called before kernels are imported."""
    if KernelFinder not in sys.meta_path:
        sys.meta_path.insert(0, KernelFinder)

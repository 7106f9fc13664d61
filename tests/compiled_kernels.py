"""Triton's compiler, run on kernels without a GPU: the interpreter takes more than it does.

Compiles in a process of its own, since Triton decides for a whole process whether it interprets.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# What is compiled for: an NVIDIA GPU (Hopper) and an AMD one (MI300), by Triton's names.
TARGETS = {"nvidia": ("cuda", 90, 32), "amd": ("hip", "gfx942", 64)}


class Call(NamedTuple):
    """A call of a kernel, by the types of its arguments."""

    kernel: str
    """Module and name, with a dot between them."""
    types: dict[str, str]
    """Each argument's type: "*bf16" for a pointer, "i32" for a number."""
    constants: dict[str, Any]
    """Each argument whose value is known: blocks' sizes, and an absent pointer, which is None."""


def assert_compiles(calls: list[Call], target: str, cache: Path) -> None:
    """Compile kernels to the machine code of a GPU.

    Args:
        calls: What is compiled.
        target: A name in `TARGETS`.
        cache: A folder for what is compiled.
    """
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.compiled_kernels", target],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def main(target: str) -> None:
    """Compile the calls that come on standard input."""
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for kernel, types, constants in json.load(sys.stdin):
        module, _, name = kernel.rpartition(".")
        function = getattr(importlib.import_module(module), name)
        signature = {
            each: "constexpr" if each in constants else types[each] for each in function.arg_names
        }
        known = {each: value for each, value in constants.items() if each in signature}
        source = ASTSource(function, signature, known)
        compile_kernel(source, target=GPUTarget(*TARGETS[target]))


if __name__ == "__main__":
    main(sys.argv[1])

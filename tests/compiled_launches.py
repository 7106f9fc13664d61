"""Compile what launches launch, for a GPU that need not be there.

The interpreter shows what kernels compute, and not that they can be compiled. Triton brings its
compiler and NVIDIA's assembler along, so that much can be shown anywhere. It is run by a process of
its own, since Triton decides for a whole process whether kernels are compiled or interpreted.
"""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch

HOPPER = ("cuda", 90, 32)
_TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}
_OPTIONS = ("num_warps", "num_stages")


def run_compiling(program: str, cache: Path) -> str:
    """Return what a Python program prints in a process in which Triton compiles."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    root = Path(__file__).parents[1]
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{root / 'src'}"
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout


class Compiling:
    """Stands for a module of kernels: what is launched is compiled, once, and not run."""

    def __init__(self, kernels: Any) -> None:
        """Stand for `kernels`."""
        self._kernels = kernels
        self.compiled: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> "_Launched":
        return _Launched(getattr(self._kernels, name), self.compiled)

    def assembly(self) -> list[tuple[str, str]]:
        """Return the name of each kernel that was compiled, and what it became."""
        return [(key[0], found.asm["ptx"]) for key, found in self.compiled.items()]


class _Launched:
    """Stands for a kernel."""

    def __init__(self, kernel: Any, compiled: dict[tuple[Any, ...], Any]) -> None:
        self._kernel, self._compiled = kernel, compiled

    def __getitem__(self, grid: tuple[int, ...]) -> "_Launched":
        assert all(size > 0 for size in grid)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        kernel = self._kernel
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        given = dict(zip(kernel.arg_names, args, strict=False)) | kwargs
        assert sorted(given) == sorted(kernel.arg_names), kernel.__name__
        known = [it.name for it in kernel.params if it.is_constexpr or given[it.name] is None]
        constants = {name: given[name] for name in known}
        signature = {
            name: "constexpr" if name in constants else _type_of(given[name])
            for name in kernel.arg_names
        }
        key = (kernel.__name__, *signature.values(), *constants.values())
        if key not in self._compiled:
            self._compiled[key] = _compile(kernel, signature, constants, options)


def spilled_bytes(assembly: str) -> int:
    """Return how many bytes a thread of a kernel puts aside for want of registers."""
    knobs = import_module("triton.knobs")
    with NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(assembly)
        file.flush()
        command = [knobs.nvidia.ptxas.path, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.search(r"(\d+) bytes spill stores", log)
    assert found is not None, log
    return int(found[1])


def _type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return _TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def _compile(
    kernel: Any, signature: dict[str, str], constants: dict[str, Any], options: dict[str, int]
) -> Any:
    compiler, backends = (import_module(f"triton.{it}") for it in ("compiler", "backends.compiler"))
    told_nothing = {
        it.name for it in kernel.params if it.do_not_specialize or it.do_not_specialize_on_alignment
    }
    # Pointers and sizes are multiples of 16, as in a model of any use.
    attributes = {
        (at,): [["tt.divisibility", 16]]
        for at, (name, kind) in enumerate(signature.items())
        if (kind[0] == "*" or kind == "i32") and name not in told_nothing
    }
    source = compiler.ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    return compiler.compile(source, target=backends.GPUTarget(*HOPPER), options=options)

"""Triton's compiler, run on kernels without a GPU: the interpreter takes more than it does.

The interpreter shows what kernels compute, and not that they can be compiled. Triton brings its
compiler and the makers' assemblers along, so that much can be shown anywhere: of kernels by the
types of their arguments (`assert_compiles`), or of all that a launcher launches (`Compiling`). It
is done in a process of its own, since Triton decides for a whole process whether it interprets.
"""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import pytest
import torch

# What is compiled for: an NVIDIA GPU (Hopper) and an AMD one (MI300), by Triton's names.
TARGETS = {"nvidia": ("cuda", 90, 32), "amd": ("hip", "gfx942", 64)}
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
    plain = [tuple(each) for each in calls]
    run_compiling(
        f"from tests.compiled_kernels import compile_calls; compile_calls({plain}, {target!r})",
        cache,
    )


def run_compiling(program: str, cache: Path) -> str:
    """Return what a Python program prints in a process in which Triton compiles.

    Args:
        program: It may import from the package and from the tests.
        cache: A folder for what is compiled.
    """
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={
            **os.environ,
            "TRITON_INTERPRET": "0",
            "TRITON_CACHE_DIR": str(cache),
            "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def compile_calls(calls: list[tuple[str, dict[str, str], dict[str, Any]]], target: str) -> None:
    """Compile what `assert_compiles` was given, in this process."""
    for name, types, constants in calls:
        module, _, kernel = name.rpartition(".")
        function = getattr(import_module(module), kernel)
        _compile(function, types, constants, TARGETS[target])


class Compiling:
    """Stands for a module of kernels: what is launched is compiled, once, and not run."""

    def __init__(self, kernels: Any, target: str = "nvidia") -> None:
        """Stand for `kernels`, compiled for a name in `TARGETS`."""
        self._kernels, self._target = kernels, TARGETS[target]
        self.compiled: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> "_Launched":
        return _Launched(getattr(self._kernels, name), self._target, self.compiled)

    def assembly(self) -> list[tuple[str, str]]:
        """Return the name of each kernel that was compiled, and what it became."""
        return [
            (key[0], found.asm.get("ptx") or found.asm["amdgcn"])
            for key, found in self.compiled.items()
        ]


class _Launched:
    """Stands for a kernel."""

    def __init__(self, kernel: Any, target: tuple[Any, ...], compiled: dict[Any, Any]) -> None:
        self._kernel, self._target, self._compiled = kernel, target, compiled

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
        types = {name: _type_of(each) for name, each in given.items() if name not in constants}
        key = (kernel.__name__, *types.values(), *constants.values())
        if key in self._compiled:
            return
        told_nothing = {
            it.name
            for it in kernel.params
            if it.do_not_specialize or it.do_not_specialize_on_alignment
        }
        # Pointers and sizes are multiples of 16, as in a model of any use.
        attributes = {
            (at,): [["tt.divisibility", 16]]
            for at, name in enumerate(kernel.arg_names)
            if name not in told_nothing
            and ((kind := types.get(name, " "))[0] == "*" or kind == "i32")
        }
        self._compiled[key] = _compile(kernel, types, constants, self._target, attributes, options)


def spilled_bytes(assembly: str) -> int:
    """Return how many bytes a thread of a kernel puts aside for want of registers, on Hopper."""
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
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    target: tuple[Any, ...],
    attributes: dict[Any, Any] | None = None,
    options: dict[str, int] | None = None,
) -> Any:
    compiler, backends = (import_module(f"triton.{it}") for it in ("compiler", "backends.compiler"))
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    known = {name: constants[name] for name in names if name in constants}
    source = compiler.ASTSource(kernel, signature, constexprs=known, attrs=attributes)
    return compiler.compile(source, target=backends.GPUTarget(*target), options=options)

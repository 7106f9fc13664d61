"""Triton's interpreter, brought nearer to what a GPU does.

- It scans one number after the other. A GPU combines in a tree, where a function that is not
  associative gives something else: the order of a tree finds it, and is a hundred times faster.
- It cuts the lower half of a float32 off to get a bfloat16. A GPU rounds to the nearest.
- It multiplies matrices of bfloat16 as if their bits were integers.
- It looks through the whole language again whenever a kernel calls another: a millisecond.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Mend the interpreter; Triton is imported here, when TRITON_INTERPRET is set."""
    from triton import language as tl
    from triton.runtime import interpreter

    cut_off = interpreter._convert_float

    def convert(numbers: Any, source: Any, target: Any, rounding: Any) -> Any:
        if (source, target) == (tl.bfloat16, tl.float32):
            return np.array(numbers).astype(np.uint32) << 16
        if (source, target) != (tl.float32, tl.bfloat16):
            return cut_off(numbers, source, target, rounding)
        rounded = torch.from_numpy(np.array(numbers)).to(torch.bfloat16)
        return rounded.view(torch.int16).numpy().view(np.uint16)

    multiply, builder = interpreter.InterpreterBuilder.create_dot, interpreter.interpreter_builder

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (builder.cast_impl(each, tl.float32) for each in (a, b))
        return multiply(self, a, b, *rest)

    with (
        patch.object(interpreter.InterpreterBuilder, "create_dot", dot),
        patch.object(interpreter, "_patch_lang", once(interpreter._patch_lang, interpreter, tl)),
        patch.object(interpreter.ScanOps, "generic_scan", tree_scan),
        patch.object(interpreter, "_convert_float", convert),
    ):
        yield


def once(look_through: Callable[[Any], Any], interpreter: Any, language: Any) -> Callable[..., Any]:
    """Return the interpreter's `_patch_lang`, for modules that it has not been through already.

    Args:
        look_through: It.
        interpreter: Its module.
        language: What kernels are written in, of which they see one module or the other.
    """
    through: set[int] = set()  # until the kernel that was launched has ended

    def look(function: Any) -> Any:
        known = function.__globals__.values()
        parts = (language, language.core)
        used = {id(part) for part in parts if any(each is part for each in known)}
        if used <= through:
            return interpreter._LangPatchScope()
        scope = look_through(function)
        restore = scope.restore

        def restored() -> None:
            restore()
            through.clear()

        scope.restore = restored
        through.update(used)
        return scope

    return look


def tree_scan(self: Any, inputs: Sequence[Any]) -> list[Any]:
    """Return the inclusive scan of blocks along an axis: Triton's `ScanOps.generic_scan`.

    Args:
        self: The `ScanOps`, which has the axis and the function.
        inputs: The parts of what is scanned, tensors of the interpreter of one shape.
    """
    axis, length = self.axis, inputs[0].handle.data.shape[self.axis]
    position = np.arange(length).reshape(
        [-1 if i == axis else 1 for i in range(len(inputs[0].shape))]
    )
    parts = [each.handle.data for each in inputs]
    distance = 1
    while distance < length:
        earlier = [
            np.take(each, np.maximum(position.ravel() - distance, 0), axis) for each in parts
        ]
        combined = self.combine_fn.fn(
            *(self.to_tensor(each, like.dtype) for each, like in zip(earlier, inputs, strict=True)),
            *(self.to_tensor(each, like.dtype) for each, like in zip(parts, inputs, strict=True)),
        )
        combined = combined if isinstance(combined, tuple) else (combined,)
        parts = [
            np.where(position >= distance, new.handle.data, old)
            for new, old in zip(combined, parts, strict=True)
        ]
        distance *= 2
    return [self.to_tensor(each, like.dtype) for each, like in zip(parts, inputs, strict=True)]

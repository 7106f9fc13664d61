"""The step's kernels as a compiler sees them; what they compute, test_step.py shows."""

import json
from pathlib import Path

import pytest

from tests.compiled_kernels import run_compiling

PROGRAM = """
import json
import torch
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.rwkv4_step.triton import kernels, launch
from receptance.ops.rwkv4_step.triton.plan import make_plan, make_workspace
from tests.compiled_kernels import Compiling
from tests.step_weights import INT4, INT8, V, make_pool, make_weights

kind, batches = {kind}, {batches}
format = kind if isinstance(kind, QuantizedFormat) else None
plan = make_plan(make_weights(kind, 1), vocab_size=V, eps=1e-5, format=format)
launch.kernels_of = lambda package: compiling
found = {{}}
for batch in batches:
    compiling = Compiling(kernels)
    launch.launch_step(plan, make_workspace(plan, batch), [e[:1] for e in make_pool()], batch)
    found[batch] = compiling.assembly()
print(json.dumps(found))
"""


def assembly_of(kind: str, batches: list[int], cache: Path) -> list[list[tuple[str, str]]]:
    program = PROGRAM.format(kind=kind, batches=batches)
    return list(json.loads(run_compiling(program, cache)).values())


def require_one_instruction(kernels: list[tuple[str, str]]) -> None:
    """Check that all products are by the instruction that `tile_of` means for up to 32 rows."""
    names = [name for name, _ in kernels]
    assert sorted(set(names)) == [
        *("channel_mix_kernel", "embed_kernel", "norm_mix_kernel"),
        *("product_kernel", "time_mix_kernel"),
    ]
    assert len(names) == 9  # a norm with 0, 2 and 3 blends; products that add, gate, or neither
    for name, assembly in kernels:
        is_product = name not in ("embed_kernel", "norm_mix_kernel")
        assert ("mma.sync.aligned.m16n8k16" in assembly) == is_product
        assert "wgmma" not in assembly


def test_all_kernels_compile_and_32_rows_are_multiplied_by_the_instruction_for_16(tmp_path):
    """So a row's sums have one order in batches of up to 32, which larger ones need not have."""
    (kernels,) = assembly_of("torch.bfloat16", [32], tmp_path)
    require_one_instruction(kernels)


@pytest.mark.slow
def test_16_rows_are_multiplied_by_the_instruction_for_32(tmp_path):
    (kernels,) = assembly_of("torch.bfloat16", [1], tmp_path)
    require_one_instruction(kernels)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["torch.bfloat16", "torch.float16", "torch.float32", "INT8", "INT4"]
)
def test_every_kind_of_matrix_compiles_for_batches_of_every_size(kind, tmp_path):
    for kernels in assembly_of(kind, [1, 33], tmp_path):
        assert len(kernels) == 9
        for name, assembly in kernels:
            if kind.startswith("INT") and "product" in name:
                assert ".s32.s8.s8" in assembly  # integers, which are summed exactly

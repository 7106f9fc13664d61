"""The ops that run the kernels of `wkv4`: how work is cut, what is refused, what PyTorch sees."""

import json
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.errors import ImplementationUnavailableError
from receptance.ops.dispatch import choose
from receptance.ops.wkv4 import IMPLEMENTATIONS, WKV4State, wkv4
from receptance.ops.wkv4.triton import BLOCK_C, TILE, Cut, cut, wkv4_triton_obstacle
from tests.compiled_kernels import TARGETS, Call, assert_compiles, run_compiling
from tests.ops.wkv4.test_native import Case, assert_all_close, make_case, results
from tests.tolerances import FLOAT32

BLOCKS = {"TILE": TILE, "BLOCK_C": BLOCK_C}


def arguments(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor, WKV4State]:
    return case.log_w, case.u, case.k, case.v, WKV4State(case.num, case.den, case.log_scale)


def test_wide_rows_are_walked_whole_and_narrow_or_long_ones_are_cut():
    assert cut(T=4096, C=4096) == Cut(tokens=4096, segments=1)
    assert cut(T=1024, C=768).segments == 4
    assert cut(T=512, C=768).segments == 2  # none shorter than 256
    assert cut(T=100, C=32).segments == 1
    assert cut(T=100_000, C=2048).segments == 25
    assert cut(T=1, C=1) == Cut(tokens=TILE, segments=1)


@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 257, 5000, 2**30])
@pytest.mark.parametrize("C", [1, 5, 768, 10_000])
@pytest.mark.parametrize("tokens", [0, 1, 32, 10**10])
def test_segments_are_whole_tiles_and_cover_every_token_once(T, C, tokens):
    per_segment, segments = cut(T, C, tokens)
    assert per_segment % TILE == 0
    assert (segments - 1) * per_segment < T <= segments * per_segment


def test_auto_takes_no_kernel_on_the_cpu():
    case = make_case(1, 2, 3).to(torch.float32)
    with pytest.raises(ImplementationUnavailableError, match="it runs on a GPU, and a tensor is"):
        wkv4(*arguments(case), implementation="triton")
    assert [each.name for each in IMPLEMENTATIONS] == ["native", "triton", "reference"]


@pytest.mark.usefixtures("interpreted")
def test_what_is_asked_for_by_name_runs():
    case = make_case(1, 5, 3, with_resets=True).to(torch.float32)
    y, after = wkv4(*arguments(case), resets=case.resets, implementation="triton")
    expected, state = wkv4(*arguments(case), resets=case.resets, implementation="reference")
    assert_close(y, expected, **FLOAT32)
    assert_close(after.num / after.den, state.num / state.den, **FLOAT32)


@pytest.mark.usefixtures("interpreted")
def test_the_obstacle_names_a_dtype_that_is_not_served():
    obstacle = wkv4_triton_obstacle(*arguments(make_case(1, 2, 3)), None)
    assert "it serves float32, bfloat16 and float16, and a tensor is torch.float64" in str(obstacle)


@pytest.mark.gpu
def test_auto_takes_the_kernels_on_a_gpu():
    case = make_case(1, 2, 3).to(torch.float32)
    case = Case._make(None if each is None else each.cuda() for each in case)
    args = (*arguments(case), None)
    assert choose("wkv4", IMPLEMENTATIONS, "auto", *args).name == "triton"
    assert wkv4(*arguments(case))[0].is_cuda


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_empty_shapes_work(shape, triton_device):
    case = make_case(*shape).to(torch.float32)

    def run(log_w, u, k, v, state, resets):
        moved = (each.to(triton_device) for each in (log_w, u, k, v, *state))
        y, *after, _ = torch.ops.receptance.wkv4_triton(*moved, resets)
        return y.cpu(), WKV4State(*(each.cpu() for each in after))

    actual = results(case, run)
    assert actual["y"].shape == shape
    assert torch.equal(actual["grad_u"], torch.zeros_like(case.u))
    if shape[1] == 0:
        assert_close(actual["mean"], case.num / case.den)
        assert_close(actual["grad_num"], case.grad_num)


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, in inductor
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_traces_whole_under_torch_compile(dynamic, triton_device):
    case = make_case(2, 12, 6, with_resets=True).to(torch.float32)
    compiled = torch.compile(wkv4, fullgraph=True, dynamic=dynamic)

    def run_on_device(call):
        def run(log_w, u, k, v, state, resets):
            tensors = [each.to(triton_device) for each in (log_w, u, k, v, *state, resets)]
            state = WKV4State(*tensors[4:7])
            args = (tensors[0], tensors[1], tensors[2], tensors[3], state)
            y, after = call(*args, resets=tensors[7], implementation="triton")
            return y.cpu(), WKV4State(*(each.cpu() for each in after))

        return run

    whole, eager = (results(case, run_on_device(call)) for call in (compiled, wkv4))
    assert_all_close(whole, eager, rtol=0, atol=0)


def calls(element: str, constants: Mapping[str, int | None]) -> list[Call]:
    """Return a call of every kernel, with k, v, y and their gradients of one type."""
    elements = {"k_ptr", "v_ptr", "y_ptr", "grad_y_ptr", "grad_k_ptr", "grad_v_ptr"}
    states = {"num_ptr", "den_ptr", "log_scale_ptr", "borders_ptr", "sums_ptr", "ends_ptr"}
    after = {f"after_{each}" for each in states} | {f"grad_{each}" for each in states}
    after |= {f"grad_after_{each}" for each in states}
    parameters = {"log_w_ptr", "u_ptr", "grad_log_w_ptr", "grad_u_ptr"}
    numbers = {"T", "C", "tokens", "segments", "tiles", "n_tiles"}
    types = dict.fromkeys(elements, f"*{element}")
    types |= dict.fromkeys(states | after | parameters, "*fp32") | {"resets_ptr": "*u8"}
    types |= dict.fromkeys(numbers, "i32")
    forward = [f"kernels.{each}" for each in ("summarise", "carry", "forward")]
    backward = [f"kernels_backward.{each}" for each in ("summarise", "carry", "backward")]
    package = "receptance.ops.wkv4.triton"
    return [Call(f"{package}.{each}", types, dict(constants)) for each in forward + backward]


PROGRAM = """
import importlib, json
import torch
from receptance.ops.wkv4 import triton as ours
from tests.compiled_kernels import Compiling, spilled_bytes

def kernels_of(package, module="kernels"):
    return modules.setdefault(module, Compiling(importlib.import_module(f"{package}.{module}")))

modules, ours.kernels_of = {}, kernels_of
k = torch.zeros(1, 64, 64, dtype=torch.bfloat16)
states, u = torch.zeros(3, 1, 64), torch.zeros(64)
*_, borders = torch.ops.receptance.wkv4_triton(u, u, k, k, *states, None)
torch.ops.receptance.wkv4_triton_backward(u, u, k, k, None, borders, k, *states[:2])
found = {
    name: (assembly, spilled_bytes(assembly))
    for module in modules.values()
    for name, assembly in module.assembly()
}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_nothing_passes_between_threads_and_nothing_is_spilled(tmp_path):
    """Else a tile's columns are not each in a thread, and a token costs several times as much."""
    found = json.loads(run_compiling(PROGRAM, tmp_path))
    assert sorted(found) == ["backward", "forward"]
    for assembly, spilled in found.values():
        assert "shfl" not in assembly
        assert "bar.sync" not in assembly
        assert spilled == 0


@pytest.mark.slow
@pytest.mark.parametrize("element", ["fp32", "fp16"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_compiles_for_any_gpu_and_shape(target, element, tmp_path):
    ones = {"C": 1, "resets_ptr": None}
    assert_compiles(calls(element, {**BLOCKS, **ones}), target, tmp_path)

"""Law: a model in float16 is the model, however large what it adds to its stream.

The model here is one whose keys' squares, and whose products that enter the stream, are far beyond
the end of float16, 65504. It is compared with itself in float64, on the same weights.
"""

from functools import partial
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

from receptance.models import RWKV4
from receptance.models import rwkv4_packed as chooser
from receptance.models.rwkv4_packed_triton import PackedTritonRWKV4
from tests.random_models import random_rwkv4, random_tokens, with_matrices
from tests.tolerances import BFLOAT16_LOGITS

V, END = 19, torch.finfo(torch.float16).max
# A unit in the last place of float16 is an eighth of bfloat16's.
NEAR = BFLOAT16_LOGITS / 8

# Of the ops of a forward, those with kernels.
TABLES = (
    *("GATE_IMPLEMENTATIONS", "GATED_ADD_IMPLEMENTATIONS", "SQUARE_IMPLEMENTATIONS"),
    *("IMPLEMENTATIONS",),
)


def extreme() -> RWKV4:
    """Return a model in float16 whose products are far beyond float16, in every layer."""
    model = random_rwkv4(3, 40, V).requires_grad_(False)
    for block in model.blocks:
        for name, factor in (("att.value", 50), ("att.output", 5e4), ("ffn.key", 400)):
            block.get_submodule(name).get_parameter("weight").mul_(factor)
    return with_matrices(model, torch.float16)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return how far apart two tensors are, relative to their root mean square."""
    difference = found.double().cpu() - expected
    return float((difference.square().mean() / expected.square().mean()).sqrt())


def note(found: list[float], module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
    """Note the largest number that a module gives: a hook."""
    del module, inputs
    found.append(float(y.max()))


def test_the_model_is_as_extreme_as_it_is_said_to_be():
    model = extreme().double()
    largest: dict[str, list[float]] = {"att.output": [], "ffn.key": []}
    for block in model.blocks:
        for name, found in largest.items():
            block.get_submodule(name).register_forward_hook(partial(note, found))
    stream: list[float] = []
    model.ln_out.register_forward_pre_hook(lambda _, x: stream.append(float(x[0].max())))
    model(random_tokens(2, 6, V))
    assert all(500 < k < 4095 for k in largest["ffn.key"])  # 256² is beyond the end
    assert all(y > 2 * END for y in largest["att.output"])
    assert stream[0] > 50 * END


def test_reading_is_that_of_float64():
    model, tokens = extreme(), random_tokens(2, 6, V)
    logits, state = model(tokens)
    expected, end = extreme().double()(tokens)
    assert logits.dtype == torch.float32
    assert distance(logits, expected) < NEAR
    for name, tensor in state.tensors.items():
        assert tensor.dtype == torch.float32
        assert distance(tensor, end.tensors[name]) < NEAR, name


def test_reading_in_tritons_kernels_is_that_of_float64(triton_device, monkeypatch):
    """Every op that has them; the products are PyTorch's."""
    tokens = random_tokens(2, 5, V)
    expected, end = extreme().double()(tokens)
    served: set[str] = set()
    for name in ("gate", "half_linear", "layer_norm", "norm_shift_mix", "wkv4"):
        op = import_module(f"receptance.ops.{name}")
        for table, rows in [(key, each) for key, each in vars(op).items() if key in TABLES]:
            kernels = tuple(each for each in rows if each.name == "triton")
            if kernels:
                monkeypatch.setattr(op, table, kernels)
                served.add(f"{name} {table}")
    assert len(served) == 6
    with torch.no_grad():
        logits, state = extreme().to(triton_device)(tokens.to(triton_device))
    assert distance(logits, expected) < NEAR
    for name, tensor in state.tensors.items():
        assert distance(tensor, end.tensors[name]) < NEAR, name


def test_stepping_on_a_gpu_is_that_of_float64(triton_device, monkeypatch):
    monkeypatch.setattr(chooser, "native_obstacle", lambda _: "it is not asked")
    model, tokens = extreme().to(triton_device), random_tokens(2, 4, V)
    packed = model.pack()
    assert isinstance(packed, PackedTritonRWKV4)
    pool = model.zero_state(2)
    logits = [packed.step(column, pool, torch.tensor([1, 0])) for column in tokens.unbind(1)]
    expected, end = extreme().double()(tokens)
    assert distance(torch.stack(logits, dim=1), expected) < NEAR
    found = pool.select([1, 0])
    for name, tensor in found.tensors.items():
        assert distance(tensor, end.tensors[name]) < NEAR, name


@pytest.mark.gpu
def test_reading_on_a_gpu_is_that_of_float64():
    tokens = random_tokens(2, 70, V)
    with torch.no_grad():
        logits, state = extreme().cuda()(tokens.cuda())
        expected, end = extreme().double()(tokens)
    assert distance(logits, expected) < NEAR
    assert distance(state.num / state.den, end.num / end.den) < NEAR

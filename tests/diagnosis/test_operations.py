"""What is said of an op is what a call of it would find."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
import torch

from receptance import ops
from receptance.diagnosis import operations
from receptance.diagnosis.operations import INFERENCE, PROBES, TRAINING, Probe, Tensors, op_findings
from receptance.models import RWKV4Config, build
from receptance.models.rwkv4_packed import PackedRWKV4
from receptance.models.rwkv4_packed_triton import PackedTritonRWKV4
from receptance.ops.dispatch import Implementation
from receptance.ops.native import library_obstacle
from tests.random_models import with_matrices

CPU = torch.device("cpu")
ELSEWHERE = torch.device("meta")

needs_library = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


def tables() -> Iterator[tuple[Implementation, ...]]:
    """Yield every table of implementations that an op has."""
    packages = (each for each in pkgutil.iter_modules(ops.__path__) if each.ispkg)
    for found in packages:
        module = importlib.import_module(f"receptance.ops.{found.name}")
        for value in vars(module).values():
            if isinstance(value, tuple) and value and isinstance(value[0], Implementation):
                yield value


def test_every_table_of_every_op_is_asked():
    asked = [probe.table for probe in PROBES]
    assert [table for table in tables() if table not in asked] == []
    assert len(list(tables())) == len(PROBES) - 1  # the step has none


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.op)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arguments_are_such_as_the_op_is_called_with(probe: Probe, dtype: torch.dtype):
    """Whatever says that it can run them does."""
    with torch.no_grad():
        arguments = probe.arguments(Tensors(CPU, dtype, wants_gradient=False))
        runs = [each for each in probe.table if each.obstacle(*arguments) is None]
        assert runs
        if probe.op != "rwkv4_step":  # a plan goes before its step
            for each in runs:
                each.run(*arguments)


def test_the_weights_of_a_step_are_those_of_a_model():
    with torch.no_grad():
        (weights,) = operations._rwkv4_step(Tensors(CPU, torch.float32, wants_gradient=False))
    model = build(RWKV4Config(n_layer=1, n_embd=32, vocab_size=32))
    wide = {tensor.ndim for tensor in weights.layers[0]}
    assert wide == {1, 2}
    assert sum(each.ndim == 2 for each in weights.tensors) == sum(
        each.ndim == 2 for each in model.parameters()
    )


def test_the_step_is_asked_of_all_that_a_model_is_packed_for(triton_device):
    """On the CPU the interpreter stands for a GPU, which the native step does not go to."""
    (found,) = (
        each
        for each in op_findings(torch.device(triton_device))
        if (each.op, each.dtype) == ("rwkv4_step", "bfloat16")
    )
    assert list(found.obstacles) == ["native", "triton", "forward"]
    assert found.obstacles["triton"] is None
    packed = with_matrices(build(RWKV4Config(n_layer=1, n_embd=32, vocab_size=32)), torch.bfloat16)
    kinds = {"native": PackedRWKV4, "triton": PackedTritonRWKV4}
    assert type(packed.to(triton_device).pack()) is kinds[found.chosen or ""]


def test_without_a_gpu_triton_says_so_of_the_step():
    found = {each.op: each for each in op_findings(CPU)}["rwkv4_step"]
    assert "it runs on a GPU, and a tensor is on cpu" in (found.obstacles["triton"] or "")


@needs_library
def test_a_reason_is_that_of_the_table_with_its_purpose():
    found = {(each.op, each.purpose): each for each in op_findings(CPU)}
    training, inference = found["linear", TRAINING], found["linear", INFERENCE]

    assert inference.obstacles["native"] is None
    assert inference.chosen == "native"
    assert training.chosen == "reference"
    assert "it has no gradient, and one is wanted" in (training.obstacles["native"] or "")
    assert ("rwkv4_step", TRAINING) not in found


def test_another_device_is_asked_about_what_a_gpu_may_hold():
    found = list(op_findings(ELSEWHERE))

    assert {each.dtype for each in found} == {"float32", "bfloat16", "float16"}
    assert {each.device for each in found} == {"meta"}
    reasons = {each.obstacles["native"] for each in found if each.op == "wkv4"}
    assert reasons == {"it runs on the cpu, and a tensor is on meta"}
    assert all(each.chosen is not None for each in found)
    assert {each.dtype for each in found if each.op.startswith("half")} == {"float16"}
    assert not any(each.op.startswith("half") for each in op_findings(CPU))


def test_an_op_that_nothing_can_run_has_no_choice(monkeypatch):
    never = Implementation("never", lambda: None, lambda *_: "it never runs")
    monkeypatch.setattr(operations, "PROBES", (Probe("never", (never,), lambda _: ()),))
    assert {each.chosen for each in op_findings(CPU)} == {None}

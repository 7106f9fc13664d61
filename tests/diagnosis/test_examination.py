"""What is wrong is said with what to do, and what is only absent is not."""

import dataclasses
import json

import pytest
import torch

from receptance.diagnosis import OpFinding, examine
from receptance.diagnosis.examination import problems
from receptance.ops.native import library_obstacle

WELL = {
    "versions": {"torch": "2.10.1+cpu", "triton": None},
    "no_gpu": "this PyTorch is built for the CPU alone",
    "drivers": (),
    "library": None,
    "ops": (),
}
NOWHERE = OpFinding(
    op="wkv4", device="cpu", purpose="training", dtype="bfloat16", chosen=None, obstacles={}
)


def test_a_machine_without_a_gpu_is_well():
    assert problems(**WELL) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": {"torch": "2.9.0", "triton": None}}, "torch must be 2.10 or later, got 2.9"),
        ({"library": "it is not built; build it with: make setup"}, "build it with: make setup"),
        ({"drivers": ["NVIDIA"]}, "driver of NVIDIA, but no GPU can be used: this PyTorch is buil"),
        ({"no_gpu": None}, "cannot run without triton; install it with: pip install triton"),
        ({"ops": (NOWHERE,)}, "wkv4 cannot run on cpu in bfloat16 for training"),
    ],
)
def test_what_is_wrong_is_said(change, said):
    (problem,) = problems(**{**WELL, **change})
    assert said in problem


def test_a_gpu_that_is_seen_needs_no_more_than_triton():
    versions = {"torch": "2.13.0+cu130", "triton": "3.9.0"}
    assert problems(**{**WELL, "versions": versions, "no_gpu": None, "drivers": ["NVIDIA"]}) == []


def test_all_of_it_is_one_document():
    found = examine()

    assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert {each.device for each in found.ops} == {each.name for each in found.devices}
    assert found.versions["torch"] == torch.__version__
    assert any("kernels for the CPU" in each for each in found.problems) == (
        library_obstacle() is not None
    )

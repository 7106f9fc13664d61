"""One token of RWKV-4 for each of many sequences, through all layers, in one call.

Its definition is the model's own forward; that they agree is a law in the tests.
"""

from receptance.ops.rwkv4_step.native import (
    CHANGEABLE,
    RWKV4ChangesPlan,
    RWKV4LayerWeights,
    RWKV4Plan,
    RWKV4Weights,
    native_obstacle,
    rwkv4_changes_plan,
    rwkv4_plan,
    rwkv4_step,
)
from receptance.ops.rwkv4_step.triton import RWKV4TritonStep, triton_step_obstacle

__all__ = [
    "CHANGEABLE",
    "RWKV4ChangesPlan",
    "RWKV4LayerWeights",
    "RWKV4Plan",
    "RWKV4TritonStep",
    "RWKV4Weights",
    "native_obstacle",
    "rwkv4_changes_plan",
    "rwkv4_plan",
    "rwkv4_step",
    "triton_step_obstacle",
]

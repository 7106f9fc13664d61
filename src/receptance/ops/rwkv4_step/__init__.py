"""One token of RWKV-4 for each of many sequences, through all layers, in one native call.

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

__all__ = [
    "CHANGEABLE",
    "RWKV4ChangesPlan",
    "RWKV4LayerWeights",
    "RWKV4Plan",
    "RWKV4Weights",
    "native_obstacle",
    "rwkv4_changes_plan",
    "rwkv4_plan",
    "rwkv4_step",
]

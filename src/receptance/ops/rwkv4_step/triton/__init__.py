"""The step on a GPU, in Triton.

Weights lie where and as they do for the CPU. The sums of a row of a product have an order that its
neighbours have no part in: `launch.tile_of` says in which batches it is the same.
"""

from receptance.ops.rwkv4_step.triton.plan import triton_step_obstacle
from receptance.ops.rwkv4_step.triton.step import RWKV4TritonStep

__all__ = ["RWKV4TritonStep", "triton_step_obstacle"]

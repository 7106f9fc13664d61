"""A run before it begins: what each of its steps does and what all will cost, without doing it.

The plan is arithmetic over the settings, and the run itself goes by it; the estimate of parameters,
products and memory, for which a step is traced on tensors without memory, is what `receptance train
--dry-run` shows.
"""

from receptance.training.planning.estimate import (
    groups_sha256,
    parameter_groups,
    parameters_by_part,
    rank_memory,
    trained_parameters,
    training_flops_per_token,
)
from receptance.training.planning.plan import (
    StepPlan,
    marks,
    micro_batch_rows,
    plan_step,
    rows_of_rank,
    samples_before,
    tokens_before,
)
from receptance.training.planning.remedies import memory_remedies

__all__ = [
    "StepPlan",
    "groups_sha256",
    "marks",
    "memory_remedies",
    "micro_batch_rows",
    "parameter_groups",
    "parameters_by_part",
    "plan_step",
    "rank_memory",
    "rows_of_rank",
    "samples_before",
    "tokens_before",
    "trained_parameters",
    "training_flops_per_token",
]

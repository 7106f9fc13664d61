"""Tasks of lm-eval-harness, which must be installed: the extra `eval`.

To import this registers the model "receptance" with the harness.
"""

from receptance.evaluation.tasks.adapter import HarnessModel, sampling_params
from receptance.evaluation.tasks.loading import LoadedTasks, load_tasks
from receptance.evaluation.tasks.prefix import parse_prefix
from receptance.evaluation.tasks.runs import run_tasks, task_figures

__all__ = [
    "HarnessModel",
    "LoadedTasks",
    "load_tasks",
    "parse_prefix",
    "run_tasks",
    "sampling_params",
    "task_figures",
]

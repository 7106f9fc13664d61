"""The figures of a run: what each step has, where it is written, and what it is measured by.

One line a step in `metrics.jsonl`, its mirror for TensorBoard, the average of what was measured
lately, the time that is left, the clock of a device, and the most that the machine can do.
`training/watch.py` makes the figures of a step from what happened in it.
"""

from receptance.training.metrics.metrics import (
    METRICS_FILE,
    Metrics,
    MetricsFile,
    bits_per_byte,
    read_metrics,
)
from receptance.training.metrics.moving_average import MovingAverage
from receptance.training.metrics.peak import peak_flops_per_s
from receptance.training.metrics.stopwatch import Mark, Stopwatch
from receptance.training.metrics.tensorboard import TensorBoardMirror
from receptance.training.metrics.time_left import TimeLeft, n_due

__all__ = [
    "METRICS_FILE",
    "Mark",
    "Metrics",
    "MetricsFile",
    "MovingAverage",
    "Stopwatch",
    "TensorBoardMirror",
    "TimeLeft",
    "bits_per_byte",
    "n_due",
    "peak_flops_per_s",
    "read_metrics",
]

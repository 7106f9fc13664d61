"""How fast a model runs, beside what the machine can do."""

from receptance.benchmark.ceilings import MatrixCeiling, ReadCeiling
from receptance.benchmark.clock import Timed, alternate
from receptance.benchmark.decode import BYTES_PER_PARAMETER, Decode, bytes_per_token
from receptance.benchmark.memory import peak_resident_bytes, resident_bytes
from receptance.benchmark.prefill import Prefill, prefill, prefill_flops
from receptance.benchmark.random_weights import random_model
from receptance.benchmark.report import Report, Settings, chart, measure

__all__ = [
    "BYTES_PER_PARAMETER",
    "Decode",
    "MatrixCeiling",
    "Prefill",
    "ReadCeiling",
    "Report",
    "Settings",
    "Timed",
    "alternate",
    "bytes_per_token",
    "chart",
    "measure",
    "peak_resident_bytes",
    "prefill",
    "prefill_flops",
    "random_model",
    "resident_bytes",
]

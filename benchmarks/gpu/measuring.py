"""What the benchmarks of a GPU share: its clock, its ceilings, and where figures are written.

Times of a GPU's work are its own (events), taken after its caches were overwritten. Every figure
stands beside a ceiling that was measured right before it: a copy of device memory, counting what is
read and what is written, or a product of two large random matrices. All of it runs on the CPU too,
with --device cpu --quick, which proves the programs and measures nothing of interest.
"""

import argparse
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from receptance.ops.device import sum_in_float32

RESULTS = Path(__file__).parents[1] / "results"
# More than any cache of a GPU holds; on the CPU, where nothing is claimed, as good as nothing.
FLUSH_BYTES = {"cuda": 1 << 28, "cpu": 1 << 12}
COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 20}
MATRIX_SIZE = {"cuda": 8192, "cpu": 64}
CEILING_RUNS = 10
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Bench:
    """A program's device, its time, and the rows that it has found."""

    subject: str
    """Names the file of figures."""
    device: torch.device
    quick: bool
    seconds: float
    """After so many no further case is begun."""
    folder: Path
    began: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    left_out: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    has_failed: bool = False
    """Whether a case was left out for another reason than its size and the time."""

    def __post_init__(self) -> None:
        self._flush = torch.empty(
            FLUSH_BYTES[self.device.type], dtype=torch.uint8, device=self.device
        )

    def measure(
        self,
        cases: Iterable[dict[str, Any]],
        measure: Callable[[dict[str, Any]], dict[str, Any]],
        show: Callable[[dict[str, Any]], str],
    ) -> None:
        """Measure case by case while there is time, and write what was found after each.

        A case that fails, as one without enough memory, is left out with what was said of it:
        kernels that are too large for a GPU, by an error of Triton's own.

        Args:
            cases: What is varied, the most important first.
            measure: Returns the figures of a case.
            show: Returns the line to print for a row: a case with its figures.
        """
        self.write()  # an earlier run's figures must not be taken for this one's
        for case in cases:
            if time.perf_counter() - self.began > self.seconds:
                self._leave_out(case, f"the {self.seconds:.0f} seconds were over")
                continue
            try:
                row = {**case, **measure(case)}
            except Exception as error:  # noqa: BLE001 (the other cases are measured all the same)
                self.has_failed |= not isinstance(error, torch.OutOfMemoryError)
                self._leave_out(case, f"{type(error).__name__}: {error}".strip().splitlines()[0])
                self.forget()
                continue
            self.rows.append(row)
            print(show(row), flush=True)
            self.write()

    def medians_s(self, runs: Sequence[Callable[[], object]], n_rounds: int) -> list[float]:
        """Return the median seconds of each run on the device; a round runs each once.

        Each runs once before, not counted: kernels are compiled by it.
        """
        for run in runs:
            run()
        seconds: list[list[float]] = [[] for _ in runs]
        for _ in range(n_rounds):
            for run, found in zip(runs, seconds, strict=True):
                found.append(self._seconds(run))
        return [statistics.median(each) for each in seconds]

    def copy_bytes_per_s(self) -> float:
        """Return what a copy within device memory moves, read and written counted both."""
        source = torch.ones(COPY_BYTES[self.device.type], dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        (seconds,) = self.medians_s([lambda: target.copy_(source)], CEILING_RUNS)
        return 2 * source.nbytes / seconds

    def matrix_flops_per_s(self, dtype: str) -> float:
        """Return the rate of a product of large square matrices of random numbers.

        Equal numbers would be multiplied faster: they take less power.
        """
        n = MATRIX_SIZE[self.device.type]
        a, b = (torch.randn(n, n, device=self.device).to(DTYPES[dtype]) for _ in range(2))
        (seconds,) = self.medians_s([lambda: torch.matmul(a, b)], CEILING_RUNS)
        return 2 * n**3 / seconds

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget(self) -> None:
        """Give freed memory back, and begin to count the most that is held."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int | None:
        """Return the most device memory held since `forget`; None on the CPU."""
        is_gpu = self.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.device) if is_gpu else None

    def write(self) -> None:
        """Write all rows so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {
            **machine(self.device),
            "quick": self.quick,
            "seconds": time.perf_counter() - self.began,
            "rows": self.rows,
            "left_out": self.left_out,
        }
        text = json.dumps(found, indent=2, allow_nan=False) + "\n"
        (self.folder / f"{self.subject}.json").write_text(text)

    def _leave_out(self, case: dict[str, Any], why: str) -> None:
        self.left_out.append({**case, "why": why})
        print(f"left out {case}: {why}", flush=True)
        self.write()

    def _seconds(self, run: Callable[[], object]) -> float:
        self._flush.zero_()
        if self.device.type != "cuda":
            began = time.perf_counter()
            run()
            return time.perf_counter() - began
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        run()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1e3


def bench(subject: str, description: str, argv: Sequence[str] | None) -> Bench:
    """Return the benchmark that the command line asks for.

    Args:
        subject: Names the file of figures.
        description: For --help.
        argv: The arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; cpu to try the program")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, few rounds")
    parser.add_argument("--seconds", type=float, default=170.0, help="no case begins after as many")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="[default: results/DEVICE]")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    if device.type not in FLUSH_BYTES:
        parser.error(f"--device must be a GPU as cuda or cuda:1, or cpu, got {options.device!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no GPU; see: receptance doctor", file=sys.stderr)
        sys.exit(1)
    if device.type == "cpu" and not options.quick:
        parser.error("--device cpu goes with --quick: the shapes are a GPU's")
    folder = options.out or RESULTS / device_folder(device)
    sum_in_float32(device)  # as a run and `load` do
    torch.manual_seed(0)
    return Bench(subject, device, options.quick, options.seconds, folder)


def device_folder(device: torch.device) -> str:
    """Return the name of a device as a folder, such as "nvidia-h200"."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def machine(device: torch.device) -> dict[str, Any]:
    """Return what figures depend on besides the program."""
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "triton": _triton_version(),
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["memory_bytes"] = properties.total_memory
    return found


def random_tokens(vocab_size: int, *shape: int) -> Tensor:
    """Return tokens on the CPU, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size, shape, generator=generator)


def _triton_version() -> str | None:
    if find_spec("triton") is None:
        return None
    import triton  # noqa: PLC0415 (it may be absent)

    return triton.__version__

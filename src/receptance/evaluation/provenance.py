"""What a result is of: which weights, which text, measured by what."""

import hashlib
import platform
from pathlib import Path
from typing import Any, Literal

import torch

from receptance.evaluation.results import FileEntry, ModelEntry, TokenizerEntry
from receptance.inference import LanguageModel
from receptance.models import RWKV4
from receptance.quantization import FORMATS, quantization
from receptance.version import package_version

CPU_FILE = Path("/proc/cpuinfo")


def file_entry(path: Path) -> FileEntry:
    """Return what a result says of a file; it is read to its end.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileEntry(path=str(path), sha256=digest.hexdigest(), bytes=path.stat().st_size)


def model_entry(lm: LanguageModel, path: Path, adapter: Path | None = None) -> ModelEntry:
    """Return what a result says of a model; the first use reads all its weights.

    Args:
        lm: The model.
        path: Where it was loaded from, as it was given.
        adapter: What was added to it, merged or beside it.
    """
    config = lm.model.config
    return ModelEntry(
        path=str(path),
        fingerprint=lm.fingerprint,
        architecture=config.architecture,
        parameters=config.n_parameters,
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        vocab_size=config.vocab_size,
        matrices=_format_of(lm.model),
        adapter=None if adapter is None else file_entry(adapter),
    )


def tokenizer_entry(lm: LanguageModel) -> TokenizerEntry:
    """Return what a result says of a model's tokenizer."""
    return TokenizerEntry(name=lm.tokenizer.name, sha256=lm.tokenizer.sha256)


def start_entry(lm: LanguageModel) -> Literal["zero", "initial state"]:
    """Return what a result says of the state from which a model reads a text."""
    start, zero = lm.start_state(None).tensors, lm.zero_state().tensors
    is_zero = all(torch.equal(start[name], each) for name, each in zero.items())
    return "zero" if is_zero else "initial state"


def versions(device: torch.device) -> dict[str, Any]:
    """Return what measures: versions, the machine, and the device and threads it computes with.

    Args:
        device: The model's.
    """
    is_gpu = device.type == "cuda"
    return {
        "receptance": package_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if is_gpu else device.type,
    }


def _format_of(model: RWKV4) -> str:
    """Return the name of the format of a model's matrices."""
    rounded = quantization(model)
    if rounded is None:
        return str(model.emb.weight.dtype).removeprefix("torch.")
    names = (name for name, each in FORMATS.items() if each == rounded)
    return next(names, f"int{rounded.bits}, groups of {rounded.group_size}")


def _cpu() -> str:
    """Return the name of the processor, as far as the system tells it."""
    if CPU_FILE.is_file():
        for line in CPU_FILE.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()

"""What each format can be asked for when it is written."""

from dataclasses import dataclass

import torch

from receptance.checkpoint.formats.ggml_blocks import BLOCK_FORMATS
from receptance.checkpoint.schema import DTYPES
from receptance.quantization import FORMATS


@dataclass(frozen=True)
class Target:
    """The precisions that a format has."""

    dtypes: tuple[str, ...]
    quantized: tuple[str, ...]


TARGETS = {
    "native": Target(("float32", "bfloat16"), tuple(FORMATS)),
    "official": Target(tuple(DTYPES), ()),
    "huggingface": Target(tuple(DTYPES), ()),
    "ggml": Target(("float32", "float16"), tuple(name.lower() for name in BLOCK_FORMATS)),
}
"""The formats that are written, and their precisions."""


@dataclass(frozen=True)
class Wanted:
    """What is to be written; the fields are arguments of `convert_model`.

    Raises:
        ValueError: If there is no such format, it lacks the precision, two are given, or a
            calibration text is not for rounding.
    """

    to: str
    dtype: str | None
    quantize: str | None
    calibration: str | None

    def __post_init__(self) -> None:
        if self.to not in TARGETS:
            raise ValueError(f"`to` must be one of {[*TARGETS]}, got {self.to!r}")
        self._check_precision(TARGETS[self.to])
        if self.calibration is not None and (self.quantize is None or self.to != "native"):
            raise ValueError(
                "a calibration text is for rounding a model folder: `quantize` must be given with "
                f"it, and `to` be 'native', got {self.quantize!r} and {self.to!r}"
            )

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """What `dtype` names."""
        return None if self.dtype is None else DTYPES[self.dtype]

    def _check_precision(self, target: Target) -> None:
        for name, value, known in (
            ("dtype", self.dtype, target.dtypes),
            ("quantize", self.quantize, target.quantized),
        ):
            if value is not None and value not in known:
                which = f"one of {[*known]} or None" if known else "None"
                raise ValueError(f"`{name}` must be {which} for {self.to!r}, got {value!r}")
        if self.dtype is not None and self.quantize is not None:
            raise ValueError(
                "`dtype` must be None with `quantize`, since rounded matrices have none, got "
                f"{self.dtype!r}"
            )

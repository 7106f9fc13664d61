"""The formats that have a name. Others can be made, saved and loaded; these are the ones to use."""

from receptance.ops.quantized_linear import QuantizedFormat

FORMATS = {
    "int8": QuantizedFormat(bits=8, group_size=32),
    "int4": QuantizedFormat(bits=4, group_size=32),
}
"""By name: 1.0625 and 0.5625 bytes a weight."""


def format_named(name: str) -> QuantizedFormat:
    """Return a format of `FORMATS`.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in FORMATS:
        raise ValueError(f"`quantize` must be one of {list(FORMATS)} or None, got {name!r}")
    return FORMATS[name]

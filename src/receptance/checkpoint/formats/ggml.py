"""The files of rwkv.cpp: a .bin with the parameters of an RWKV-4 by name.

Names are the authors', and so are numbers and shapes, but for these: what the authors have as
[1, 1, C] is [C], and in place of time_decay stands -exp(time_decay). Vectors are FP32. Matrices are
in what the header says, except that rwkv.cpp's own quantizer leaves the embedding and the head as
they were. `ggml_directory` has the form of the file.

Source: `rwkv.cpp`, python/convert_pytorch_to_ggml.py and rwkv_quantize.inc.
"""

import logging
import math
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from io import BufferedReader
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.checkpoint.formats.ggml_blocks import (
    BLOCK_FORMATS,
    BLOCK_LENGTH,
    dequantize_blocks,
    quantize_blocks,
)
from receptance.checkpoint.formats.ggml_directory import (
    DATA_TYPES,
    FILE_HEADER,
    MAGIC,
    PARAMETER_HEADER,
    TYPES,
    VERSION,
    Parameter,
    read_directory,
)
from receptance.checkpoint.formats.log_decay import log_w_of, time_decay_of
from receptance.checkpoint.schema import check_has_ln0
from receptance.checkpoint.stored import StoredModel
from receptance.checkpoint.versions import check_is_rwkv4, layer_count
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config
from receptance.tensor_file import Entry

logger = logging.getLogger(__name__)

_DTYPES = {"FP32": torch.float32, "FP16": torch.float16}

# Numbers that are converted at once: 4 MB of float32, about what a core's cache holds.
_CHUNK = 1 << 20

_DECAY = ".att.time_decay"
_OF_THE_VOCABULARY = ("emb.weight", "head.weight")


def read_bin(path: Path) -> StoredModel:
    """Return what a file of rwkv.cpp holds; no number of it is read.

    Matrices of FP16 are given as float16, blocks as the float32 numbers that they stand for.

    Raises:
        CheckpointError: If the file is damaged or hostile, is of another version or of a type that
            is not read, or is not an RWKV-4. An entry's `read` raises it if the file was cut short
            since, or a decay is not negative and finite.
        OSError: If it cannot be read.
    """
    header, parameters = read_directory(path)
    check_is_rwkv4(path, parameters)
    config, n_layer = header.config, layer_count(parameters)
    if n_layer != config.n_layer:
        raise CheckpointError(
            f"{str(path)!r} must hold the {config.n_layer} layers that its header tells of, but "
            f"it holds {n_layer}"
        )
    shape = (config.vocab_size, config.n_embd)
    for name in _OF_THE_VOCABULARY:
        if name in parameters and parameters[name].shape != shape:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must have the shape {[*shape]} that the header tells "
                f"of, but it has {[*parameters[name].shape]}"
            )
    entries = partial(_entries, path)
    details = {"version": header.version, "data_type": header.data_type}
    return StoredModel("ggml", path, path, config, None, entries, entries, details)


def write_bin(
    path: Path, config: RWKV4Config, tensors: Mapping[str, Entry], data_type: str
) -> None:
    """Write a model as a file of rwkv.cpp, version 101, with matrices in `data_type`.

    Blocks are those of ggml's reference. With them the embedding and the head are FP16, or FP32
    where a number of theirs is too large for it, which is logged. One tensor is in memory at a
    time, and is converted in parts of some megabytes.

    Args:
        path: The file, overwritten if it exists; stage it with `atomic_file`.
        config: The sizes of the model.
        tensors: Its parameters, of floating-point numbers, by the authors' names; they are written
            in this order.
        data_type: One of `DATA_TYPES`.

    Raises:
        CheckpointError: If a number is not finite, or is too large for FP16 or for the scale of a
            block, if -exp of a decay is not negative and finite in float32, or if the model has no
            ln0, without which rwkv.cpp opens none.
        ValueError: If there is no such type, or rows of the model are no whole blocks.
        OSError: If the file cannot be written.
    """
    if data_type not in DATA_TYPES:
        raise ValueError(f"`data_type` must be one of {list(DATA_TYPES)}, got {data_type!r}")
    if data_type in BLOCK_FORMATS and config.n_embd % BLOCK_LENGTH:
        raise ValueError(
            f"the rows of a model in {data_type} must be whole blocks of {BLOCK_LENGTH}, but it "
            f"has `n_embd` {config.n_embd}; write FP16 or FP32"
        )
    check_has_ln0(path, config)
    sizes = (config.vocab_size, config.n_embd, config.n_layer)
    with path.open("wb") as file:
        file.write(FILE_HEADER.pack(MAGIC, VERSION, *sizes, TYPES.index(data_type)))
        for name, entry in tensors.items():
            file.writelines(_parameter_parts(name, entry.read(), data_type))


def _entries(path: Path) -> dict[str, Entry]:
    """Return the parameters of a file as the authors have them, each made when it is read."""
    _, parameters = read_directory(path)
    entries: dict[str, Entry] = {}
    for name, parameter in parameters.items():
        is_mix = ".time_mix_" in name and len(parameter.shape) == 1
        shape = (1, 1, *parameter.shape) if is_mix else parameter.shape
        dtype = _DTYPES.get(parameter.data_type, torch.float32)
        if name.endswith(_DECAY):
            dtype = torch.float32
        entries[name] = Entry(dtype, shape, partial(_read_tensor, path, name, parameter, shape))
    return entries


def _read_tensor(
    path: Path, name: str, parameter: Parameter, shape: tuple[int, ...]
) -> Float[Tensor, "..."]:
    """Return the numbers of a parameter as the authors have them."""
    with path.open("rb") as file:
        file.seek(parameter.start)
        numbers = _read_numbers(path, file, name, parameter)
    if name.endswith(_DECAY):
        numbers = time_decay_of(path, name, numbers)
    return numbers.view(shape)


def _read_numbers(
    path: Path, file: BufferedReader, name: str, parameter: Parameter
) -> Float[Tensor, " N"]:
    """Return the numbers that begin here in a file."""
    count = math.prod(parameter.shape)
    if parameter.data_type in _DTYPES:
        numbers = torch.empty(count, dtype=_DTYPES[parameter.data_type])
        _fill_(numbers, path, file, name)
        return numbers
    format = BLOCK_FORMATS[parameter.data_type]
    numbers = torch.empty(count // BLOCK_LENGTH, BLOCK_LENGTH)
    for part in numbers.split(_CHUNK // BLOCK_LENGTH):
        blocks = torch.empty(len(part), format.block_bytes, dtype=torch.uint8)
        _fill_(blocks, path, file, name)
        part.copy_(dequantize_blocks(format, blocks))
    return numbers.view(-1)


def _fill_(tensor: Tensor, path: Path, file: BufferedReader, name: str) -> None:
    """Fill a tensor with the next bytes of a file.

    They are read and not mapped: nothing in the file is aligned, so that each tensor is a copy, and
    of a file that another program cuts short meanwhile too little is read, where a map would end
    this one.
    """
    content = tensor.view(-1).view(torch.uint8).numpy().data
    if file.readinto(content) < len(content):
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must lie within the file, but the file was cut short while "
            "it was read"
        )


def _parameter_parts(
    name: str, numbers: Float[Tensor, "..."], data_type: str
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a parameter, its header and then its numbers in parts."""
    data_type = _type_of_parameter(name, numbers, data_type)
    shape = numbers.shape if numbers.ndim == 2 else (numbers.numel(),)
    raw_name = name.encode()
    header = PARAMETER_HEADER.pack(len(shape), len(raw_name), TYPES.index(data_type))
    yield header + struct.pack(f"<{len(shape)}i", *reversed(shape)) + raw_name
    flat = numbers.detach().reshape(-1)
    if name.endswith(_DECAY):
        flat = log_w_of(name, flat)
    for part in flat.split(_CHUNK):
        converted = _converted(name, part.float(), data_type)
        yield converted.view(-1).view(torch.uint8).numpy().data


def _type_of_parameter(name: str, numbers: Tensor, data_type: str) -> str:
    """Return what a parameter is stored in, if matrices are in `data_type`."""
    if numbers.ndim != 2:
        return "FP32"
    if data_type not in BLOCK_FORMATS or name not in _OF_THE_VOCABULARY:
        return data_type
    least, greatest = torch.aminmax(numbers)
    if max(-least.item(), greatest.item()) <= torch.finfo(torch.float16).max:
        return "FP16"
    logger.info("%r has numbers too large for FP16, and is stored in FP32", name)
    return "FP32"


def _converted(name: str, numbers: Float[Tensor, " N"], data_type: str) -> Tensor:
    """Return numbers as they are stored."""
    what = f"{name!r} must be finite in {data_type} to be stored in it, but"
    if data_type in BLOCK_FORMATS:
        try:
            return quantize_blocks(BLOCK_FORMATS[data_type], numbers.view(-1, BLOCK_LENGTH))
        except ValueError as error:
            raise CheckpointError(f"{what} it is not: {error}; write FP32") from error
    converted = numbers.to(_DTYPES[data_type])
    least, greatest = torch.aminmax(converted)
    if not bool(torch.isfinite(least) and torch.isfinite(greatest)):
        largest = numbers.abs().max().item()
        remedy = "" if data_type == "FP32" else "; write FP32"
        raise CheckpointError(f"{what} its numbers reach {largest:g}{remedy}")
    return converted

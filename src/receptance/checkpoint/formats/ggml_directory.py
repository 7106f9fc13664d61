"""What a file of rwkv.cpp says that it holds, read with distrust.

The file is a header, and then one parameter after another until it ends. All whole numbers have 32
bits, the lowest byte first, and nothing is aligned:

    header      magic, version, n_vocab, n_embed, n_layer, type
    parameter   length of the shape, length of the name, type, shape, name, numbers

A shape is the authors' reversed. A type is one of `TYPES`; the header's is that of most matrices.
Version 100 is as 101, except that its blocks were made otherwise: only FP32 and FP16 are read.

Source: `rwkv.cpp`, docs/FILE_FORMAT.md and rwkv_file_format.inc.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from receptance.checkpoint.formats.ggml_blocks import BLOCK_FORMATS, BLOCK_LENGTH
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config

MAGIC = struct.pack("<i", 0x67676D66)  # "ggmf", the lowest byte first
RELATED_MAGICS = {
    MAGIC[::-1]: "was written by rwkv.cpp on a big-endian machine",
    b"lmgg": "is a ggml file without a version, as programs wrote it until March 2023",
    b"tjgg": "is a ggjt file, as llama.cpp wrote it in 2023",
    b"algg": "is an adapter (ggla), as llama.cpp wrote it in 2023",
    b"GGUF": "is a GGUF file, as llama.cpp has them",
}
"""What other files of ggml begin with, and what they are."""

VERSION = 101
TYPES = (
    *("FP32", "FP16", "Q4_0", "Q4_1", "Q4_1_O", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"),
)
"""The types by the numbers that stand for them in a file."""

DATA_TYPES = ("FP32", "FP16", *BLOCK_FORMATS)
"""The types that are read and written."""

FILE_HEADER = struct.Struct("<4s5i")
PARAMETER_HEADER = struct.Struct("<3i")

_VERSIONS = (100, VERSION)
_DROPPED_TYPES = ("Q4_1_O", "Q4_2", "Q4_3")
_MAX_DIMENSIONS = 3
_MAX_NAME_BYTES = 256

# The largest published RWKV has 61 layers, and no version has 40 parameters in one. What a file may
# claim is bounded so that a hostile one costs no more than a glance.
_MAX_LAYERS = 1024
_MAX_PARAMETERS_PER_LAYER = 64


@dataclass(frozen=True)
class Header:
    """What a file says of its model."""

    version: int
    data_type: str
    config: RWKV4Config


@dataclass(frozen=True)
class Parameter:
    """Where the numbers of a parameter lie in its file."""

    data_type: str
    shape: tuple[int, ...]
    """The authors' order: rows, columns."""
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        count = math.prod(self.shape)
        if self.data_type in BLOCK_FORMATS:
            return count // BLOCK_LENGTH * BLOCK_FORMATS[self.data_type].block_bytes
        return count * (4 if self.data_type == "FP32" else 2)


def read_directory(path: Path) -> tuple[Header, dict[str, Parameter]]:
    """Return what a file says that it holds; all of it lies within the file.

    What is read and kept is the directory alone, which is bounded by the layers that the header
    tells of, whatever the size of the file.

    Raises:
        CheckpointError: If the file is damaged or hostile, or is of a version or a type that is not
            read. Whether the parameters are those of a model is not checked.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = _read_header(path, file)
        parameters: dict[str, Parameter] = {}
        max_parameters = _MAX_PARAMETERS_PER_LAYER * (header.config.n_layer + 1)
        while (start := file.tell()) < size:
            if len(parameters) == max_parameters:
                raise CheckpointError(
                    f"{str(path)!r} must hold the parameters of {header.config.n_layer} layers, "
                    f"but it holds more than {max_parameters}"
                )
            name, parameter = _read_parameter(path, file, header, size)
            if name in parameters:
                raise CheckpointError(
                    f"{str(path)!r} must hold {name!r} once, but there is another at byte {start}"
                )
            parameters[name] = parameter
            file.seek(parameter.start + parameter.nbytes)
    return header, parameters


def _read_header(path: Path, file: BinaryIO) -> Header:
    """Return what a file says of its model, if it is of a kind that is read."""
    content = file.read(FILE_HEADER.size)
    magic = content[: len(MAGIC)]
    if magic != MAGIC:
        what = RELATED_MAGICS.get(magic, f"begins with {magic!r}")
        raise CheckpointError(f"{str(path)!r} must be a file of rwkv.cpp, but it {what}")
    if len(content) < FILE_HEADER.size:
        raise CheckpointError(
            f"{str(path)!r} must begin with a header of {FILE_HEADER.size} bytes, but it has only "
            f"{len(content)}"
        )
    _, version, n_vocab, n_embd, n_layer, data_type = FILE_HEADER.unpack(content)
    if version not in _VERSIONS:
        raise CheckpointError(
            f"{str(path)!r} must be of rwkv.cpp's version 100 or 101, but it is of {version}"
        )
    if min(n_vocab, n_embd, n_layer) < 1 or n_layer > _MAX_LAYERS:
        raise CheckpointError(
            f"the header of {str(path)!r} must tell of a vocabulary, a width and 1 to "
            f"{_MAX_LAYERS} layers, but it tells of {n_vocab}, {n_embd} and {n_layer}"
        )
    config = RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=n_vocab)
    return Header(version, _type_named(path, f"{str(path)!r}", version, data_type), config)


def _type_named(path: Path, what: str, version: int, code: int) -> str:
    """Return the name of a type, if numbers of it are read in this version."""
    name = TYPES[code] if 0 <= code < len(TYPES) else f"the unknown type {code}"
    if name not in DATA_TYPES:
        also = ", nor by rwkv.cpp any more" if name in _DROPPED_TYPES else ""
        raise CheckpointError(
            f"{what} must be one of {list(DATA_TYPES)}, but it is {name}, which is not read{also}; "
            "convert the authors' .pth of the model instead"
        )
    if name in BLOCK_FORMATS and version != VERSION:
        raise CheckpointError(
            f"{what} must be FP32 or FP16 in a file of version {version}, but it is {name}, whose "
            f"blocks were others before version {VERSION}; make {str(path)!r} anew from the file "
            "in FP32 or FP16, or convert the authors' .pth"
        )
    return name


def _read_parameter(path: Path, file: BinaryIO, header: Header, size: int) -> tuple[str, Parameter]:
    """Return the name of the parameter that begins here, and where in the file it lies."""
    at = f"the parameter at byte {file.tell()} of {str(path)!r}"
    n_dimensions, name_bytes, code = PARAMETER_HEADER.unpack(
        _read_whole(file, at, PARAMETER_HEADER.size)
    )
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS or not 1 <= name_bytes <= _MAX_NAME_BYTES:
        raise CheckpointError(
            f"{at} must have 1 to {_MAX_DIMENSIONS} dimensions and a name of 1 to "
            f"{_MAX_NAME_BYTES} bytes, but it has {n_dimensions} and {name_bytes}"
        )
    shape = struct.unpack(f"<{n_dimensions}i", _read_whole(file, at, 4 * n_dimensions))[::-1]
    raw_name = _read_whole(file, at, name_bytes)
    try:
        name = raw_name.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"the name of {at} must be UTF-8, but it is {raw_name!r:.80}"
        ) from error
    what = f"{name!r} in {str(path)!r}"
    data_type = _type_named(path, what, header.version, code)
    if min(shape) < 1 or (data_type in BLOCK_FORMATS and shape[-1] % BLOCK_LENGTH):
        raise CheckpointError(
            f"{what} must have rows and columns, and in blocks {BLOCK_LENGTH} columns or a "
            f"multiple, but it is {data_type} of the shape {[*shape]}"
        )
    parameter = Parameter(data_type, shape, file.tell())
    if parameter.nbytes > size - parameter.start:
        raise CheckpointError(
            f"{what} must lie within the file, but it claims {parameter.nbytes} bytes, being "
            f"{data_type} of the shape {[*shape]}, and {size - parameter.start} are left; is the "
            "file cut short?"
        )
    return name, parameter


def _read_whole(file: BinaryIO, what: str, n_bytes: int) -> bytes:
    """Return the next bytes of a file, if there are so many."""
    content = file.read(n_bytes)
    if len(content) < n_bytes:
        raise CheckpointError(f"{what} must be whole, but the file ends in it; is it cut short?")
    return content

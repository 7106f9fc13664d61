"""Files of rwkv.cpp that should not load: mutations of the header, the parameters, the numbers."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from receptance.checkpoint.formats.ggml import write_bin
from receptance.tensor_file import Entry
from tests.hostile.cases import (
    NO_FILES,
    Case,
    Content,
    cut,
    flipped,
    longer,
    sample,
    sparse,
    undamaged,
)
from tests.random_models import random_rwkv4

TARGET = "RWKV-4-tiny.bin"
TYPES = ("FP32", "FP16", "Q4_0", "Q5_1", "Q8_0")

_NUMBERS = (0, 1, -1, 2, 99, 101, 102, 255, 1024, 65_536, 2**20, 2**31 - 1, -(2**31), -101)
_NAN = {0: b"\0\0\xc0\x7f", 1: b"\0\x7e" * 2}
_HEADER = ("magic", "version", "n_vocab", "n_embed", "n_layer", "type")


def made(data_type: str) -> bytes:
    """Return a good file."""
    model = random_rwkv4(1, 32, 64)
    entries = {name: Entry.of(weight) for name, weight in model.state_dict().items()}
    with TemporaryDirectory() as place:
        path = Path(place, TARGET)
        write_bin(path, model.config, entries, data_type)
        return path.read_bytes()


@dataclass(frozen=True)
class Parameter:
    """One of a file's; what is None is as it should be."""

    shape: tuple[int, ...]
    name: bytes
    kind: int
    numbers: bytes
    n_axes: int | None = None
    n_letters: int | None = None

    def part(self) -> bytes:
        """Return its part of the file."""
        n_axes = len(self.shape) if self.n_axes is None else self.n_axes
        n_letters = len(self.name) if self.n_letters is None else self.n_letters
        head = struct.pack("<3i", n_axes, n_letters, self.kind)
        return head + struct.pack(f"<{len(self.shape)}i", *self.shape) + self.name + self.numbers


def whole() -> list[Case]:
    """Return what must load."""
    return undamaged(*({TARGET: made(each)} for each in TYPES), target=TARGET)


def cases(count: int) -> list[Case]:
    """Return `count` cases, the same ones at every call."""
    contents = [made(each) for each in TYPES]
    told: list[Case] = []
    for content, kind in zip(contents, TYPES, strict=True):
        parts = [*_of_header(content), *_of_parameters(content), *longer(content)]
        for name, damaged in parts:
            told.append(Case(f"{kind}, {name}", {TARGET: damaged}, TARGET, _may_load(name)))
    others: dict[str, Content] = {**NO_FILES, "a vast end": sparse(1 << 40, contents[0])}
    told += [Case(f"it is {name}", {TARGET: each}, TARGET) for name, each in others.items()]
    known = sample(told, count * 7 // 10)
    rest = count - len(known)
    for index, content in enumerate(contents):
        known += _of_bytes(content, rest // 5 + (index < rest % 5), index)
    return known


def _may_load(name: str) -> bool:
    """Return whether a case is another whole model: of the header's type nothing depends."""
    return name.startswith(("type is ", "version is 10"))


def _of_bytes(content: bytes, count: int, seed: int) -> Iterator[Case]:
    """Yield cases of bits that flipped, and of files that were cut short."""
    for name, damaged in flipped(content, 24 + 12 + 8 + 10, count // 4, seed):
        yield Case(name, {TARGET: damaged}, TARGET, may_load=True)
    for name, damaged in flipped(content, len(content), count // 4, seed + 100):
        yield Case(f"{name} anywhere", {TARGET: damaged}, TARGET, may_load=True)
    borders = [24, *_begins(content)]
    for name, damaged in cut(content, borders, count - 2 * (count // 4), seed):
        yield Case(name, {TARGET: damaged}, TARGET)


def _of_header(content: bytes) -> Iterator[tuple[str, bytes]]:
    good = struct.unpack("<6i", content[:24])
    for place, name in enumerate(_HEADER):
        for number in {*_NUMBERS, *range(18)} - {good[place]}:
            changed = [*good]
            changed[place] = number
            yield f"{name} is {number}", struct.pack("<6i", *changed) + content[24:]
    for magic in (b"lmgg", b"tjgg", b"GGUF", b"ggmf", b"PK\3\4", b"\x80\2}q", b"\0" * 4):
        yield f"begins with {magic!r}", magic + content[4:]


def _of_parameters(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files of which one parameter is not what it must be."""
    header, parameters = content[:24], _parameters(content)
    parts = [each.part() for each in parameters]

    def without(index: int, *others: Parameter) -> bytes:
        new = [each.part() for each in others]
        return header + b"".join([*parts[:index], *new, *parts[index + 1 :]])

    for index, each in enumerate(parameters):
        name = each.name.decode()
        yield f"no {name}", without(index)
        yield f"{name} twice", without(index, each, each)
        yield f"{name} reversed", without(index, replace(each, shape=(*each.shape[::-1], 2)))
        yield f"{name} short", without(index, replace(each, numbers=each.numbers[:-4]))
        yield f"{name} long", without(index, replace(each, numbers=each.numbers + bytes(4)))
        if each.kind in _NAN:
            numbers = _NAN[each.kind] + each.numbers[4:]
            yield f"NaN in {name}", without(index, replace(each, numbers=numbers))
        if index % 5 == 0:
            for what, other in _odd(each):
                yield f"{name} {what}", without(index, other)
        if name.endswith("time_decay"):
            for value in (0.0, 1.0, -math.inf, math.nan):
                numbers = struct.pack("<f", value) + each.numbers[4:]
                yield f"{name} of {value}", without(index, replace(each, numbers=numbers))
    tiny = Parameter((1,), b"x", 0, bytes(4))
    many = b"".join(replace(tiny, name=b"x%d" % number).part() for number in range(30_000))
    yield "many parameters", content + many
    yield "a parameter more", content + tiny.part()


def _odd(parameter: Parameter) -> Iterator[tuple[str, Parameter]]:
    """Yield a parameter with numbers, types and names that none has."""
    for number in _NUMBERS:
        if number != len(parameter.shape):
            yield f"of {number} axes", replace(parameter, n_axes=number)
        yield f"of {number} letters", replace(parameter, n_letters=number)
        sizes = (number,) * len(parameter.shape)
        yield f"of the sizes {sizes}", replace(parameter, shape=sizes)
        if number != parameter.kind:
            yield f"of type {number}", replace(parameter, kind=number)
    for odd in (b"\xff\xfe", b"\0", b"../../x", b"\x1b[2J", b"x" * 256, b"x" * 60_000):
        yield f"is named {odd[:9]!r}", replace(parameter, name=odd)


def _parameters(content: bytes) -> list[Parameter]:
    """Return the parameters of a good file."""
    found: list[Parameter] = []
    ends = [*_begins(content)[1:], len(content)]
    for begin, end in zip(_begins(content), ends, strict=True):
        n_dims, n_name, kind = struct.unpack_from("<3i", content, begin)
        shape = struct.unpack_from(f"<{n_dims}i", content, begin + 12)
        at = begin + 12 + 4 * n_dims
        found.append(Parameter(shape, content[at : at + n_name], kind, content[at + n_name : end]))
    return found


def _begins(content: bytes) -> list[int]:
    """Return where each parameter begins: one follows the other."""
    bytes_of = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 24), 9: (32, 34)}
    begins, place = [], 24
    while place < len(content):
        begins.append(place)
        n_dims, n_name, kind = struct.unpack_from("<3i", content, place)
        shape = struct.unpack_from(f"<{n_dims}i", content, place + 12)
        count = 1
        for axis in shape:
            count *= axis
        numbers, size = bytes_of[kind]
        place += 12 + 4 * n_dims + n_name + count // numbers * size
    return begins

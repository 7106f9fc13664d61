"""Whatever a file claims, it is refused with one message, and before anything is made for it."""

import random
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch

from receptance.checkpoint.formats.ggml import read_bin, write_bin
from receptance.checkpoint.formats.ggml_directory import (
    DATA_TYPES,
    TYPES,
    Parameter,
    read_directory,
)
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry
from tests.checkpoint.ggml_file import ggml_file
from tests.random_models import random_rwkv4

MAGIC = 0x67676D66


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.bin"


@pytest.fixture
def content() -> bytes:
    """A whole file of a model."""
    return ggml_file(random_rwkv4(n_layer=2, n_embd=8, vocab_size=12).state_dict())


def header(
    version: int = 101, n_vocab: int = 4, n_embd: int = 32, n_layer: int = 1, data_type: int = 0
) -> bytes:
    return struct.pack("<6i", MAGIC, version, n_vocab, n_embd, n_layer, data_type)


def parameter(
    shape: tuple[int, ...] = (2,),
    name: bytes = b"emb.weight",
    data_type: int = 0,
    data: bytes = bytes(8),
) -> bytes:
    head = struct.pack("<3i", len(shape), len(name), data_type)
    return head + struct.pack(f"<{len(shape)}i", *shape) + name + data


def message(path: Path, content: bytes) -> str:
    """Return what is said of a file that is refused; no megabyte may be taken for it."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as raised:
            read_directory(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert repr(str(path)) in str(raised.value)
    return str(raised.value)


def test_a_directory_says_where_everything_lies(path):
    path.write_bytes(
        header() + parameter((3, 2), data=bytes(24)) + parameter((32,), "é".encode(), 9, bytes(34))
    )

    found, parameters = read_directory(path)

    assert (found.version, found.data_type) == (101, "FP32")
    assert (found.config.vocab_size, found.config.n_embd, found.config.n_layer) == (4, 32, 1)
    assert parameters == {
        "emb.weight": Parameter("FP32", (2, 3), 24 + 30),
        "é": Parameter("Q8_0", (32,), 24 + 30 + 24 + 18),
    }
    assert [each.nbytes for each in parameters.values()] == [24, 34]


@pytest.mark.parametrize(
    ("magic", "words"),
    [
        (b"lmgg", "is a ggml file without a version"),
        (b"tjgg", "is a ggjt file"),
        (b"GGUF", "is a GGUF file"),
        (b"ggmf", "was written by rwkv.cpp on a big-endian machine"),
        (b"PK\3\4", r"begins with b'PK\x03\x04'"),
        (b"\0\0\0\0", "begins with b'"),
    ],
)
def test_another_file_is_called_by_its_name(path, magic, words):
    assert f"must be a file of rwkv.cpp, but it {words}" in message(path, magic + header()[4:])


@pytest.mark.parametrize("version", [99, 102, 1, 0, -1])
def test_another_version_is_refused(path, version):
    assert f"version 100 or 101, but it is of {version}" in message(path, header(version))


@pytest.mark.parametrize("data_type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_blocks_of_version_100_are_refused_by_name(path, data_type):
    code = TYPES.index(data_type)

    assert (
        f"must be FP32 or FP16 in a file of version 100, but it is {data_type}, whose blocks were "
        "others before version 101; make"
    ) in message(path, header(100, data_type=code))
    assert f"'emb.weight' in {str(path)!r} must be FP32 or FP16 in a file of version 100" in (
        message(path, header(100) + parameter((32,), data_type=code, data=bytes(99)))
    )


@pytest.mark.parametrize("code", [4, 5, 6, 10, 11, 16, 17, -1, 2**31 - 1])
def test_a_type_that_is_not_read_is_refused_by_name(path, code):
    name = TYPES[code] if 0 <= code < len(TYPES) else f"the unknown type {code}"
    dropped = ", nor by rwkv.cpp any more" if code in (4, 5, 6) else ""
    words = f"must be one of {list(DATA_TYPES)}, but it is {name}, which is not read{dropped}; "

    assert words in message(path, header(data_type=code))
    assert f"'emb.weight' in {str(path)!r} {words}" in (
        message(path, header() + parameter(data_type=code))
    )


def test_types_are_numbered_as_the_description_of_the_format_has_them():
    numbers = {"FP32": 0, "FP16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 7, "Q5_1": 8, "Q8_0": 9}

    assert {name: TYPES.index(name) for name in DATA_TYPES} == numbers


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_vocab": 0},
        {"n_vocab": -5},
        {"n_embd": 0},
        {"n_embd": -(2**31)},
        {"n_layer": 0},
        {"n_layer": -1},
        {"n_layer": 1025},
        {"n_layer": 2**31 - 1},
    ],
)
def test_sizes_that_no_model_has_are_refused(path, sizes):
    assert "must tell of a vocabulary, a width and 1 to 1024 layers" in (
        message(path, header(**sizes))
    )


HUGE = 2**31 - 1
HOSTILE = {
    "no dimensions": (parameter(()), "must have 1 to 3 dimensions"),
    "four dimensions": (parameter((1, 1, 1, 1)), "must have 1 to 3 dimensions"),
    "dimensions without end": (struct.pack("<3i", HUGE, 1, 0), "must have 1 to 3 dimensions"),
    "negative dimensions": (struct.pack("<3i", -1, 1, 0), "must have 1 to 3 dimensions"),
    "no name": (parameter(name=b""), "a name of 1 to 256 bytes"),
    "a name without end": (struct.pack("<3i", 1, HUGE, 0), "a name of 1 to 256 bytes"),
    "a negative name": (struct.pack("<3i", 1, -1, 0), "a name of 1 to 256 bytes"),
    "a long name": (parameter(name=b"a" * 257), "a name of 1 to 256 bytes"),
    "a name that is no text": (parameter(name=b"\xff\xfe"), "must be UTF-8"),
    "no rows": (parameter((2, 0)), "must have rows and columns"),
    "negative rows": (parameter((-2, -1)), "must have rows and columns"),
    "half a block": (parameter((16, 2), data_type=2, data=bytes(99)), "32 columns or a multiple"),
    "a little too much": (parameter((3,)), "it claims 12 bytes, being FP32 of the shape [3]"),
    "far too much": (parameter((HUGE, HUGE, HUGE)), "must lie within the file"),
    "what wraps around in 64 bits": (parameter((2**30, 2**30, 4)), "must lie within the file"),
    "what wraps around in 32 bits": (parameter((2**30, 4)), "must lie within the file"),
    "too many blocks": (parameter((2**30, 2**30), data_type=3), "must lie within the file"),
    "a header cut short": (parameter()[:7], "must be whole, but the file ends in it"),
    "a shape cut short": (parameter()[:14], "must be whole, but the file ends in it"),
    "a name cut short": (parameter()[:20], "must be whole, but the file ends in it"),
    "the same twice": (parameter() * 2, "must hold 'emb.weight' once, but there is another at"),
    "something behind": (parameter() + b"\0\0", "must be whole, but the file ends in it"),
    "nothing but zeros": (bytes(64), "must have 1 to 3 dimensions"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_parameter_is_refused(path, kind):
    part, words = HOSTILE[kind]

    assert words in message(path, header() + part)


def test_parameters_without_end_are_not_walked_to_the_end(path):
    many = b"".join(parameter((1,), b"%d" % i, data=bytes(4)) for i in range(100_000))

    assert "the parameters of 1 layers, but it holds more than 128" in message(
        path, header() + many
    )


@pytest.mark.parametrize("n_bytes", [*range(25), 50, 500, -1])
def test_a_file_cut_short_is_refused(path, content, n_bytes):
    if n_bytes == 24:  # a header alone: what is missing is known to the schema
        path.write_bytes(content[:n_bytes])
        with pytest.raises(CheckpointError, match="it holds 0"):
            read_bin(path)
    else:
        message(path, content[:n_bytes])


@pytest.mark.parametrize("data_type", ["FP16", "Q4_0"])
def test_damage_is_refused_or_harmless(path, data_type):
    """A changed number is another number, but what it damages has one message."""
    model = random_rwkv4(n_layer=1, n_embd=32, vocab_size=12)
    tensors = {name: Entry.of(weight) for name, weight in model.state_dict().items()}
    write_bin(path, model.config, tensors, data_type)
    content = path.read_bytes()
    _, parameters = read_directory(path)
    heads = [*range(24), *(p.start - i for p in parameters.values() for i in range(1, 50))]
    draw = random.Random(0)
    refused = 0
    for _ in range(250):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.choice(heads)] ^= 1 << draw.randrange(8)
        if draw.random() < 0.2:
            damaged = damaged[: draw.randrange(len(damaged))]
        path.write_bytes(damaged)
        try:
            loaded = read_bin(path).model(None, None)
        except CheckpointError:
            refused += 1
        else:
            assert all(bool(torch.isfinite(each).all()) for each in loaded.parameters())

    assert refused > 200

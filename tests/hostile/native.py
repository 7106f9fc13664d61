"""Model folders that should not load: mutations of `config.json` and of `model.safetensors`."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from receptance.checkpoint import save_model
from receptance.quantization import FORMATS, quantize_model
from receptance.tokenizer import load_tokenizer
from tests.hostile.cases import (
    IMPOSSIBLE_SIZES,
    NO_FILES,
    Case,
    cut,
    flipped,
    json_bombs,
    longer,
    sample,
    sparse,
    undamaged,
)
from tests.random_models import random_rwkv4

TARGET = "model"
CONFIG, WEIGHTS = "model/config.json", "model/model.safetensors"

Header = dict[str, Any]


def model_folder(quantize: str | None = None) -> dict[str, bytes]:
    """Return the files of a good model folder."""
    model = random_rwkv4(1, 8, 256)
    if quantize is not None:
        quantize_model(model, FORMATS[quantize])
    with TemporaryDirectory() as place:
        folder = Path(place, TARGET)
        save_model(model, load_tokenizer("bytes"), folder)
        return {f"{TARGET}/{file.name}": file.read_bytes() for file in folder.iterdir()}


def whole() -> list[Case]:
    """Return what must load."""
    files = [model_folder(name) for name in (None, *FORMATS)]
    return undamaged(*files, target=TARGET)


def cases(count: int) -> list[Case]:
    """Return `count` cases, the same ones at every call."""
    plain, rounded = model_folder(), [model_folder(name) for name in FORMATS]
    told = [
        *_of_config(plain),
        *of_header(plain),
        *_of_kinds(plain),
        *(case for files in rounded for case in _of_config(files, "rounded, ", bombs=False)),
    ]
    known = sample(told, count * 7 // 10)
    rest = count - len(known)
    for index, files in enumerate((plain, *rounded)):
        known += _of_bytes(files, rest // 3 + (index < rest % 3), index)
    return known


def split(content: bytes) -> tuple[Header, bytes]:
    """Return the header and the numbers of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Header | bytes, numbers: bytes, length: int | None = None) -> bytes:
    """Return the safetensors file of a header, which may lie about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = len(text) if length is None else length
    return said.to_bytes(8, "little") + text + numbers


def _of_bytes(files: dict[str, bytes], count: int, seed: int) -> Iterator[Case]:
    """Yield cases of bits that flipped, and of files that were cut short."""
    content = files[WEIGHTS]
    header, numbers = split(content)
    begin = len(content) - len(numbers)
    borders = [
        0,
        8,
        begin,
        *(begin + each["data_offsets"][1] for each in _tensors(header).values()),
    ]
    for name, damaged in flipped(content, begin, count // 2, seed):
        yield Case(f"weights, {name}", {**files, WEIGHTS: damaged}, TARGET, may_load=True)
    for name, damaged in cut(content, borders, count - count // 2 - count // 10, seed):
        yield Case(f"weights, {name}", {**files, WEIGHTS: damaged}, TARGET)
    config = files[CONFIG]
    for name, damaged in flipped(config, len(config), count // 10, seed):
        yield Case(f"config, {name}", {**files, CONFIG: damaged}, TARGET, may_load=True)


def _of_kinds(files: dict[str, bytes]) -> Iterator[Case]:
    """Yield cases of what is no file, or no file of its own."""
    for kind, content in NO_FILES.items():
        for place in (CONFIG, WEIGHTS):
            yield Case(f"{place} is {kind}", {**files, place: content}, TARGET)
        yield Case(f"the folder is {kind}", {TARGET: content}, TARGET)
    for place in (CONFIG, WEIGHTS):
        others = {name: content for name, content in files.items() if name != place}
        yield Case(f"{place} is missing", others, TARGET)
    for name, damaged in longer(files[WEIGHTS]):
        yield Case(f"weights, {name}", {**files, WEIGHTS: damaged}, TARGET)
    yield Case("a vast config", {**files, CONFIG: sparse(3 << 30, files[CONFIG])}, TARGET)
    yield Case("a vast end", {**files, WEIGHTS: sparse(1 << 40, files[WEIGHTS])}, TARGET)
    state = "model/initial_state.safetensors"
    for name in ("a FIFO", "a folder", "a device without end"):
        yield Case(f"the state is {name}", {**files, state: NO_FILES[name]}, TARGET, may_load=True)


def _of_config(files: dict[str, bytes], what: str = "", *, bombs: bool = True) -> Iterator[Case]:
    """Yield cases of a config.json that lies."""
    good = json.loads(files[CONFIG])

    def case(name: str, text: bytes, *, may_load: bool = False) -> Case:
        return Case(f"{what}config, {name}", {**files, CONFIG: text}, TARGET, may_load)

    for name, text in json_bombs(files[CONFIG]) if bombs else ():
        yield case(name, text)
    for key in good:
        others = {name: value for name, value in good.items() if name != key}
        yield case(f"no {key}", json.dumps(others).encode(), may_load=key == "quantization")
        for value in IMPOSSIBLE_SIZES if bombs else IMPOSSIBLE_SIZES[::5]:
            may_load = key == "quantization" and value is None
            text = json.dumps({**good, key: value}).encode()
            yield case(f"{key} is {value!r:.20}", text, may_load=may_load)
    if isinstance(good["quantization"], dict):
        for key in good["quantization"]:
            for value in IMPOSSIBLE_SIZES:
                entry = {**good["quantization"], key: value}
                text = json.dumps({**good, "quantization": entry}).encode()
                is_other = value in (True, False, 0, 1)
                yield case(f"{key} is {value!r:.20}", text, may_load=is_other)
    twice = files[CONFIG].rstrip().removesuffix(b"}") + b', "n_layer": 1000000000000}'
    yield case("a size twice", twice)
    many = {f"key {index}": index for index in range(50_000)}
    yield case("many keys", json.dumps({**good, **many}).encode())
    yield case("a key of control characters", json.dumps({**good, "\x1b[2J\n": 1}).encode())


def _tensors(header: Header) -> Header:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def of_header(files: dict[str, bytes]) -> Iterator[Case]:
    """Yield cases of a header of safetensors that lies."""
    header, numbers = split(files[WEIGHTS])
    end = len(numbers)

    def case(name: str, content: bytes, *, may_load: bool = False) -> Case:
        return Case(f"weights, {name}", {**files, WEIGHTS: content}, TARGET, may_load)

    for length in (0, 1, 7, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 100_000_001):
        yield case(f"a header of {length}", joined(header, numbers, length))
    for step in (-1, 1):
        text = json.dumps(header).encode()
        yield case(f"a header {step:+d}", joined(text, numbers, len(text) + step))
    for name, text in json_bombs(json.dumps(header).encode()):
        yield case(f"header, {name}", joined(text, numbers))
    for name, change in _changes(end):
        changed, tensors = dict(header), random.Random(name).choice([*_tensors(header)])
        changed[tensors] = change(dict(header[tensors]))
        yield case(f"{tensors}: {name}", joined(changed, numbers))
    yield from (case(name, joined(text, more)) for name, text, more in _of_names(header, numbers))
    for metadata in (None, 1, [], "x", {"a": 1}, {"a": {"b": {}}}, {"a": None}):
        yield case(f"metadata {metadata}", joined({**header, "__metadata__": metadata}, numbers))
    for name, entry in _tensors(header).items():
        begin, stop = entry["data_offsets"]
        for value, kind in ((b"\0\0\xc0\x7f", "NaN"), (b"\0\0\x80\xff", "-Inf")):
            place = random.Random(name).randrange(begin, stop, 4)
            yield case(
                f"{kind} in {name}",
                joined(header, numbers[:place] + value + numbers[place + 4 :]),
            )


def _changes(end: int) -> Iterator[tuple[str, Callable[[Header], object]]]:
    """Yield what can be wrong with the entry of a tensor."""
    for dtype in ("F64", "I64", "F8_E4M3", "U8", "BOOL", "BF16", "f32", "F32 ", "", 5, None, []):
        yield f"dtype {dtype!r}", lambda entry, dtype=dtype: {**entry, "dtype": dtype}
    for size in IMPOSSIBLE_SIZES:
        yield f"shape [{size!r:.20}]", lambda entry, size=size: {**entry, "shape": [size]}
        yield (
            f"shape [2, {size!r:.20}]",
            lambda entry, size=size: {**entry, "shape": [2, size]},
        )
    for shape in ([], [2**32, 2**32], [2**33, 2**31, 2], [0, 2**63], [1] * 70, [1] * 5000, 8, None):
        yield f"shape {shape!r:.30}", lambda entry, shape=shape: {**entry, "shape": shape}
    yield "shape reversed and longer", lambda e: {**e, "shape": [2, *e["shape"][::-1]]}
    for offsets in (
        *([0, 0], [-32, 0], [0, end + 4], [end, end + 32], [4, 0], [2**63, 2**63 + 32]),
        *([2**64 - 32, 2**64], [0, 2**64], [0.0, 32.0], ["0", "32"], [0], [0, 32, 64], [], None),
        *(32, {}, [None, None], [True, 33], [10**40, 10**40 + 32]),
    ):
        yield f"offsets {offsets!r:.40}", lambda e, o=offsets: {**e, "data_offsets": o}
    for key in ("dtype", "shape", "data_offsets"):
        yield f"no {key}", lambda e, key=key: {k: v for k, v in e.items() if k != key}
    for entry in (None, 1, [], "x", {}):
        yield f"the entry {entry!r}", lambda _, entry=entry: entry


def _of_names(header: Header, numbers: bytes) -> Iterator[tuple[str, Header | bytes, bytes]]:
    """Yield headers whose names are wrong, or too many, or twice there."""
    text = json.dumps(header).encode()
    tensors = _tensors(header)
    first, entry = next(iter(tensors.items()))
    for name in tensors:
        others = {key: value for key, value in header.items() if key != name}
        yield f"no {name}", others, numbers
        yield f"{name} under another name", {**others, f"{name}2": tensors[name]}, numbers
    end = len(numbers)
    extra = {"dtype": "F32", "shape": [2], "data_offsets": [end, end + 8]}
    for name in ("", "x", "../../x", "emb.weight ", "\x1b[2J\x07", "\n", "\u202eemb", "é" * 9999):
        yield f"a tensor {name!r:.20} more", {**header, name: extra}, numbers + bytes(8)
    many = {f"tensor {index}": {**extra, "shape": [0], "data_offsets": [end] * 2}
            for index in range(30_000)}  # fmt: skip
    yield "many tensors of nothing", {**header, **many}, numbers
    layers = {name.replace("blocks.0.", f"blocks.{layer}."): value
              for layer in range(3000) for name, value in tensors.items()}  # fmt: skip
    yield "thousands of layers that are one", layers, numbers
    doubled = text.removesuffix(b"}") + f', "{first}": {json.dumps(entry)}}}'.encode()
    yield "a name twice", doubled, numbers
    vast = {**entry, "shape": [2**40], "data_offsets": [0, 2**42]}
    yield (
        "a name twice, once vast",
        f'{{"{first}": {json.dumps(vast)}, '.encode() + text[1:],
        numbers,
    )
    same = {name: {**value, "data_offsets": entry["data_offsets"]} if value["shape"] ==
            entry["shape"] else value for name, value in tensors.items()}  # fmt: skip
    yield "tensors on one another", same, numbers
    yield "no tensors", {}, b""
    yield "no tensors but numbers", {}, numbers
    yield "a hole between tensors", _with_hole(tensors), numbers + bytes(64)


def _with_hole(tensors: Header) -> Header:
    """Return the tensors, the first 64 bytes of the numbers belonging to none."""
    return {
        name: {**entry, "data_offsets": [place + 64 for place in entry["data_offsets"]]}
        for name, entry in tensors.items()
    }

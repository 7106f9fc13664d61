"""Hugging Face folders that should not load: mutations of the config, the index and the weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from receptance.checkpoint.formats.huggingface import write_folder
from receptance.tensor_file import Entry
from tests.hostile import native, official
from tests.hostile.cases import (
    IMPOSSIBLE_SIZES,
    NO_FILES,
    Case,
    Content,
    cut,
    flipped,
    json_bombs,
    link,
    sample,
    sparse,
    undamaged,
)
from tests.huggingface_folders import made_bin
from tests.random_models import random_rwkv4

TARGET = "model"
CONFIG, WEIGHTS = "model/config.json", "model/model.safetensors"
INDEX, BIN = "model/model.safetensors.index.json", "model/pytorch_model.bin"

Layout = dict[str, Content]


def folder(max_shard_bytes: int = 1 << 30, *, in_bin: bool = False) -> dict[str, bytes]:
    """Return the files of a good folder."""
    model = random_rwkv4(1, 8, 256)
    entries = {name: Entry.of(weight) for name, weight in model.state_dict().items()}
    with TemporaryDirectory() as place:
        path = Path(place, TARGET)
        path.mkdir()
        write_folder(path, model.config, entries, None, max_shard_bytes=max_shard_bytes)
        if in_bin:
            made_bin(path)
        return {f"{TARGET}/{each.name}": each.read_bytes() for each in path.iterdir()}


def layouts() -> tuple[dict[str, bytes], ...]:
    """Return one file, shards, and the same as PyTorch writes them."""
    return (
        folder(),
        folder(max_shard_bytes=9000),
        folder(in_bin=True),
        folder(max_shard_bytes=9000, in_bin=True),
    )


def whole() -> list[Case]:
    """Return what must load."""
    return undamaged(*layouts(), target=TARGET)


def cases(count: int) -> list[Case]:
    """Return `count` cases, the same ones at every call."""
    one, sharded, in_bin, sharded_bin = layouts()
    told = [
        *_of_config(one),
        *native.of_header(one),
        *_of_index(sharded, INDEX),
        *_of_index(sharded_bin, "model/pytorch_model.bin.index.json"),
        *_of_bin(in_bin),
        *(
            Case(f"weights are {name}", {**one, WEIGHTS: content}, TARGET)
            for name, content in NO_FILES.items()
        ),
    ]
    known = sample(told, count * 7 // 10)
    rest = count - len(known)
    for index, files in enumerate((one, sharded, in_bin, sharded_bin)):
        known += _of_bytes(files, rest // 4 + (index < rest % 4), index)
    return known


def _of_bytes(files: dict[str, bytes], count: int, seed: int) -> Iterator[Case]:
    """Yield cases of bits that flipped, and of files that were cut short."""
    name = sorted(each for each in files if each.endswith((".safetensors", ".bin")))[-1]
    content = files[name]
    is_torch = name.endswith(".bin")
    header = 3000 if is_torch else 8 + int.from_bytes(content[:8], "little")
    for what, damaged in flipped(content, header, count // 2, seed):
        yield Case(f"{name}, {what}", {**files, name: damaged}, TARGET, may_load=True)
    for what, damaged in cut(content, [8, header, len(content) - 22], count - count // 2, seed):
        yield Case(f"{name}, {what}", {**files, name: damaged}, TARGET)


def _of_config(files: dict[str, bytes]) -> Iterator[Case]:
    """Yield cases of a config.json that lies."""
    good = json.loads(files[CONFIG])

    def case(name: str, text: Content, *, may_load: bool = False) -> Case:
        return Case(f"config, {name}", {**files, CONFIG: text}, TARGET, may_load)

    for name, text in json_bombs(files[CONFIG]):
        yield case(name, text)
    needed = {"model_type", "vocab_size", "hidden_size", "num_hidden_layers"}
    for key in good:
        others = {name: value for name, value in good.items() if name != key}
        yield case(f"no {key}", json.dumps(others).encode(), may_load=key not in needed)
        for value in IMPOSSIBLE_SIZES:
            text = json.dumps({**good, key: value}).encode()
            yield case(f"{key} is {value!r:.20}", text, may_load=key not in needed)
    for kind in ("rwkv5", "rwkv6", "rwkv7", "rwkv_v5", "gpt2", "\x1b[2J", "x" * 9999):
        text = json.dumps({**good, "model_type": kind}).encode()
        yield case(f"of type {kind[:20]!r}", text)
    yield case("vast", sparse(3 << 30, files[CONFIG]))


def _of_index(files: dict[str, bytes], index: str) -> Iterator[Case]:
    """Yield cases of an index that lies."""
    good = json.loads(files[index])
    of = good["weight_map"]
    first, shard = next(iter(of.items()))

    def case(name: str, content: Content, **more: Content) -> Case:
        return Case(f"{index}, {name}", {**files, **more, index: content}, TARGET)

    for name, text in json_bombs(files[index]):
        yield case(name, text)
    for value in (None, 1, "x", [], {}, [[]], {"a": 1}, {"a": None}, {"a": []}):
        yield case(f"the map {value!r}", json.dumps({**good, "weight_map": value}).encode())
    for odd in (
        *("../../../etc/passwd", "/etc/passwd", "..", ".", "", "\0", "x\0.safetensors", "x" * 300),
        *("é" * 200, "\ud800", "\x1b[2J", f"./{shard}", f"../model/{shard}", f"{shard}/", "a\\b"),
        *("nothing.safetensors", "config.json", "C:x", "~/x", "file:///etc/passwd", shard.upper()),
    ):
        changed = {**good, "weight_map": {**of, first: odd}}
        yield case(f"a shard {odd[:20]!r}", json.dumps(changed).encode())
        alone = {**good, "weight_map": dict.fromkeys(of, odd)}
        yield case(f"all in {odd[:20]!r}", json.dumps(alone).encode())
    for name in ("", "x", "rwkv.blocks.99999.ln1.weight", "\x1b[2J", "x" * 9999):
        changed = {**good, "weight_map": {**of, name: shard}}
        yield case(f"a tensor {name[:20]!r} more", json.dumps(changed).encode())
    shards = sorted(set(of.values()))
    swapped = {name: shards[1 - shards.index(each)] if each in shards[:2] else each
               for name, each in of.items()}  # fmt: skip
    yield case("shards swapped", json.dumps({**good, "weight_map": swapped}).encode())
    fewer = {name: each for name, each in of.items() if name != first}
    yield case("a tensor less", json.dumps({**good, "weight_map": fewer}).encode())
    many = {f"tensor {number}": shard for number in range(100_000)}
    yield case("many tensors", json.dumps({**good, "weight_map": many}).encode())
    many = {f"tensor {number}": f"shard {number}" for number in range(20_000)}
    yield case("many shards", json.dumps({**good, "weight_map": many}).encode())
    yield case("vast", sparse(3 << 30, files[index]))
    for kind, content in NO_FILES.items():
        yield Case(f"a shard is {kind}", {**files, f"model/{shard}": content}, TARGET)
        if kind != "a link to nothing":
            yield case(f"is {kind}", content)
    yield Case("shards that are one", {**files, f"model/{shards[0]}": link(shards[1])}, TARGET)


def _of_bin(files: dict[str, bytes]) -> Iterator[Case]:
    """Yield cases of a file of PyTorch that lies: those of the authors' files, as they are."""
    for case in official.cases(600):
        content = case.files[official.TARGET]
        yield Case(f"{BIN}, {case.name}", {**files, BIN: content}, TARGET, may_load=case.may_load)

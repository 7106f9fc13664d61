"""The authors' files that should not load: mutations of the zip, of its pickle and its numbers."""

import io
import struct
from collections.abc import Iterator, Mapping

import torch

from tests.hostile import pickle_writer as p
from tests.hostile import pickles
from tests.hostile.cases import NO_FILES, Case, cut, flipped, longer, sample, undamaged
from tests.hostile.zip_writer import DEFLATED, End, Record, archive
from tests.random_models import random_rwkv4

TARGET = "RWKV-4-tiny.pth"
ROOT = "archive"
BYTES_OF_A_BOMB = 64 << 20

Weights = Mapping[str, torch.Tensor]


def weights(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Return the tensors of a good file."""
    return {name: each.to(dtype) for name, each in random_rwkv4(1, 8, 256).state_dict().items()}


def saved(tensors: object) -> bytes:
    """Return the file as PyTorch writes it."""
    content = io.BytesIO()
    torch.save(tensors, content)
    return content.getvalue()


def written(
    tensors: Weights,
    body: bytes | None = None,
    changes: Mapping[str, Record | None] | None = None,
    more: tuple[Record, ...] = (),
    end: End | None = None,
) -> bytes:
    """Return the file as PyTorch would write it, but for what is told.

    Args:
        tensors: By name, float32; record i is the numbers of the i-th.
        body: Of the pickle, in place of the one that describes them.
        changes: Records in place of others, by the name of these; None leaves one out.
        more: Records at the end.
        end: The end of the archive.
    """
    records = [
        Record(f"{ROOT}/data.pkl", p.whole(_body(tensors) if body is None else body)),
        Record(f"{ROOT}/byteorder", b"little"),
        *(
            Record(f"{ROOT}/data/{index}", each.numpy().tobytes())
            for index, each in enumerate(tensors.values())
        ),
        Record(f"{ROOT}/version", b"3\n"),
    ]
    changed = changes or {}
    kept = (changed.get(str(record.name).removeprefix(f"{ROOT}/"), record) for record in records)
    return archive([*(each for each in kept if each is not None), *more], end)


def described(tensors: Weights) -> dict[str, bytes]:
    """Return the pickle of each tensor."""
    return {
        name: p.plain_tensor(str(index), tuple(each.shape))
        for index, (name, each) in enumerate(tensors.items())
    }


def _body(tensors: Weights) -> bytes:
    return p.dictionary(described(tensors))


def whole() -> list[Case]:
    """Return what must load."""
    kinds = (torch.float32, torch.bfloat16, torch.float16)
    contents = [written(weights()), *(saved(weights(dtype)) for dtype in kinds)]
    return undamaged(*({TARGET: each} for each in contents), target=TARGET)


def cases(count: int) -> list[Case]:
    """Return `count` cases, the same ones at every call."""
    tensors = weights()
    told = [
        Case(name, {TARGET: content}, TARGET, may_load)
        for name, content, may_load in (
            *_of_pickles(tensors),
            *_of_zips(tensors),
            *_of_numbers(tensors),
        )
    ]
    told += [Case(f"it is {name}", {TARGET: each}, TARGET) for name, each in NO_FILES.items()]
    known = sample(told, count * 7 // 10)
    return known + list(_of_bytes(count - len(known)))


def _of_bytes(count: int) -> Iterator[Case]:
    """Yield cases of bits that flipped, and of files that were cut short."""
    files = [saved(weights()), saved(weights(torch.bfloat16))]
    for index in range(4):
        content = files[index % 2]
        directory = content.index(b"PK\1\2")
        if index < 2:  # the pickle is first
            parts = flipped(content, content.index(b"PK\3\4", 4), count // 4, index)
        elif index == 2:  # the directory is last
            turned = content[directory:] + content[:directory]
            length = len(content) - directory
            parts = (
                (name, each[length:] + each[:length])
                for name, each in flipped(turned, length, count // 4, index)
            )
        else:
            borders = (directory, len(content) - 22, 64, 4096)
            parts = cut(content, borders, count - 3 * (count // 4), index)
        for name, damaged in parts:
            yield Case(name, {TARGET: damaged}, TARGET, may_load=index < 3)


def _of_pickles(tensors: Weights) -> Iterator[tuple[str, bytes, bool]]:
    """Yield files whose pickle is not that of a state dict."""
    good = described(tensors)
    first, *_ = good
    for name, body in pickles.acting_pickles():
        yield f"pickle that acts, {name}", written(tensors, body), False
        weight = p.dictionary({**good, first: body})
        yield f"weight that acts, {name}", written(tensors, weight), False
        before = body + b"0" + p.dictionary(good)
        yield f"acts before, {name}", written(tensors, before), False
    for name, body in (*pickles.bombs(), *pickles.broken()):
        yield f"pickle, {name}", written(tensors, body), False
    for name, body in pickles.tensors(tensors[first].shape):
        may_load = name in ("on b'N'", "a tensor that is set anew")
        content = written(tensors, p.dictionary({**good, first: body}))
        yield f"tensor, {name}", content, may_load
    for name, body in _of_names(good):
        yield f"names, {name}", written(tensors, p.dictionary(body)), False
    protocols = {1: False, 3: False, 4: False, 5: False, 255: False, 0: False}
    for protocol in protocols:
        record = Record(f"{ROOT}/data.pkl", p.whole(p.dictionary(good), protocol))
        yield f"protocol {protocol}", written(tensors, changes={"data.pkl": record}), True
    legacy = io.BytesIO()
    torch.save(dict(tensors), legacy, _use_new_zipfile_serialization=False)
    yield "as PyTorch wrote before 2020", legacy.getvalue(), False
    script = Record(f"{ROOT}/constants.pkl", p.whole(p.EMPTY_TUPLE))
    yield "a script", written(tensors, more=(script,)), False


def _of_names(good: dict[str, bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield state dicts of which a name or a shape is wrong."""
    for name in good:
        yield f"no {name}", {key: value for key, value in good.items() if key != name}
    for name in ("", "x", "blocks.99999999.ln1.weight", "blocks.-1.ln1.weight", "\x1b[2J",
                 "blocks.999999.ln1.weight", "blocks.٣.ln1.weight", "emb.weight\n"):  # fmt: skip
        yield f"{name!r} more", {**good, name: good["ln_out.weight"]}
    yield "all under a prefix", {f"model.{name}": each for name, each in good.items()}
    yield "all within an entry", {"state_dict": p.dictionary(good)}
    yield "swapped", {**good, "emb.weight": good["ln_out.bias"], "ln_out.bias": good["emb.weight"]}
    yield "one for all", dict.fromkeys(good, good["emb.weight"])
    layers = {f"blocks.{i}.ln1.weight": good["ln_out.weight"] for i in range(20_000)}
    yield "thousands of layers", {**good, **layers}


def _of_numbers(tensors: Weights) -> Iterator[tuple[str, bytes, bool]]:
    """Yield files with numbers that are none, and shapes of another model."""
    for name, each in tensors.items():
        for value in (float("nan"), float("-inf")):
            damaged = each.clone()
            damaged.view(-1)[-1] = value
            yield f"{value} in {name}", written({**tensors, name: damaged}), False
        shape = each.shape
        for other in (shape[::-1], (*shape, 1), (1, *shape), (each.numel(),), ()):
            is_same = tuple(other) == tuple(shape)
            described_so = {**described(tensors)}
            index = str(list(tensors).index(name))
            described_so[name] = p.plain_tensor(index, tuple(other))
            content = written(tensors, p.dictionary(described_so))
            yield f"{name} is {list(other)}", content, is_same


def _of_zips(tensors: Weights) -> Iterator[tuple[str, bytes, bool]]:
    """Yield files whose archive lies."""
    index = list(tensors).index("emb.weight")
    name, data = f"{ROOT}/data/{index}", tensors["emb.weight"].numpy().tobytes()
    pickled = p.whole(_body(tensors))

    def changed(what: str, **lies: object) -> tuple[str, bytes, bool]:
        record = Record(**{"name": name, "data": data, **lies})  # type: ignore[arg-type]
        # What a record says of itself is read by nobody, but for where its numbers begin.
        may_load = lies.keys() <= {"flags", "local", "extra"}
        return f"zip, {what}", written(tensors, changes={f"data/{index}": record}), may_load

    yield changed("compressed numbers", method=DEFLATED)
    yield changed("a bomb", data=bytes(BYTES_OF_A_BOMB), method=DEFLATED)
    yield changed("a bomb that says it is small", data=bytes(BYTES_OF_A_BOMB), method=DEFLATED,
                  size=len(data))  # fmt: skip
    bomb = pickled[:2] + p.NONE * BYTES_OF_A_BOMB + p.STOP
    for size in (None, len(pickled)):
        record = Record(f"{ROOT}/data.pkl", bomb, method=DEFLATED, size=size)
        yield (
            f"zip, a pickle that unfolds, {size}",
            written(tensors, changes={"data.pkl": record}),
            False,
        )
    for method in (1, 6, 9, 12, 14, 93, 99, 0xFFFF):
        yield changed(f"method {method}", method=method)
    for flags in (1, 8, 0x20, 0x40, 0x2000, 0xFFFF):
        yield changed(f"flags {flags}", flags=flags, local={"flags": 0})
    yield changed("compressed, says the record alone", local={"method": DEFLATED})
    yield changed("another name in the record", local={"name": f"{ROOT}/data/x"})
    yield changed("a name of no length in the record", local={"name": ""})
    yield changed("a long name in the record", local={"name": "x" * 60_000})
    yield changed("sizes that differ", local={"size": 7})
    for size in (0, 1, len(data) - 4, len(data) + 4, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1):
        yield changed(f"size {size}", size=size)
        yield changed(f"packed size {size}", packed_size=size)
        yield changed(f"both sizes {size}", size=size, packed_size=size)
    for offset in (0, 1, 64, 2**31, 2**32 - 2, 2**32, 2**63, 2**64 - 1):
        yield changed(f"offset {offset}", offset=offset)
    for extra in (b"\1", b"\1\0\xff\xff", b"\1\0\0\0", b"\1\0\x08\0" + b"\xff" * 8, b"x" * 60_000):
        yield changed(f"extra {extra[:6]!r}", extra=extra)
    yield changed("not in the directory", is_listed=False)
    yield changed("in the directory alone", is_written=False)
    yield from _of_directories(tensors, name, data)


def _of_directories(tensors: Weights, name: str, data: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Yield files with too many records, with wrong names, or with a wrong end."""
    twice = Record(name, bytes(len(data)))
    yield "zip, a record twice", written(tensors, more=(twice,)), False
    other = Record(f"{ROOT}/data.pkl", p.whole(p.called(p.name_of("posix", "system"), p.NONE)))
    yield "zip, two pickles", written(tensors, more=(other,)), False
    on_it = Record(f"{ROOT}/data/x", data, offset=64, is_written=False)
    yield "zip, records on one another", written(tensors, more=(on_it,)), False
    many = tuple(Record(f"{ROOT}/data/x{i}", b"", offset=0, is_written=False) for i in range(9999))
    yield "zip, thousands of records", written(tensors, more=many), False
    vast = tuple(
        Record(f"{ROOT}/data/x{i}", b"", offset=0, is_written=False, size=2**30, packed_size=2**30)
        for i in range(2000)
    )
    yield "zip, thousands of vast records in one place", written(tensors, more=vast), False
    within = Record(f"{ROOT}/data/within.zip", written(tensors))
    yield "zip, an archive within", written(tensors, more=(within,)), True
    for odd in ("../../x", "/etc/passwd", "", "other/data.pkl", f"{ROOT}/data/0\0", "\x1b[2J",
                b"\xff\xfe", "x" * 60_000):  # fmt: skip
        record = Record(odd, b"some bytes")
        yield f"zip, a record {odd[:20]!r}", written(tensors, more=(record,)), True
    for order in (b"big", b"middle", b"", b"\x1b[2J", b"little\0"):
        record = Record(f"{ROOT}/byteorder", order)
        content = written(tensors, changes={"byteorder": record})
        yield f"zip, byte order {order!r}", content, False
    for wanted in ("data.pkl", "data/0"):
        content = written(tensors, changes={wanted: None})
        yield f"zip, no {wanted}", content, False
    for key, value in (("format_version", b"1"), ("storage_alignment", b"9" * 9999)):
        record = Record(f"{ROOT}/.{key}", value)
        yield f"zip, .{key}", written(tensors, more=(record,)), True
    for what, end in _ends().items():
        yield f"zip, {what}", written(tensors, end=end), what == "an end of 64 bits"
    good = written(tensors)
    yield "zip, two ends", written(tensors, end=End(comment=good[-22:])), False
    acts = written(tensors, p.called(p.name_of("posix", "system"), p.text("touch $CANARY")))
    yield "zip, an archive in the comment", written(tensors, end=End(comment=acts[-60_000:])), False
    yield "zip, an archive before", acts + good, False
    yield "zip, an archive behind", good + acts, False
    yield "zip, the end alone", good[-22:], False
    yield "zip, the end of nothing", b"PK\5\6" + bytes(18), False
    lone = struct.pack("<4sIQI", b"PK\6\7", 0, 2**63, 1) + b"PK\5\6" + b"\xff" * 16 + bytes(2)
    yield "zip, an end far away", lone, False
    yield from ((f"zip, {what}", content, False) for what, content in longer(good))


def _ends() -> dict[str, End]:
    """Return ends that say what is not so."""
    sizes = (0, 1, 2**31, 2**32 - 1)
    return {
        "an end of 64 bits": End(is_large=True),
        **{f"{count} records": End(count=count) for count in (0, 1, 7, 65_535, 2**32)},
        **{f"2^{bits} records": End(count=2**bits, is_large=True) for bits in (20, 32, 63)},
        **{f"a directory of {size}": End(directory_size=size) for size in sizes},
        **{f"a directory at {size}": End(directory_offset=size) for size in sizes},
        **{f"a vast directory of {size}": End(directory_size=size, is_large=True)
           for size in (2**33, 2**63, 2**64 - 1)},
        **{f"a directory far at {size}": End(directory_offset=size, is_large=True)
           for size in (2**33, 2**63, 2**64 - 1)},
        "another disk": End(disk=1),
        "a comment": End(comment=b"x" * 99),
        "a comment that is longer": End(comment=b"x", comment_size=999),
        "a comment that is shorter": End(comment=b"x" * 99, comment_size=1),
    }  # fmt: skip

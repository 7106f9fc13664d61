"""Pickles that would run code, or take all time or memory, in the place of a state dict.

Where a pickle acts it makes the file that the variable CANARY names.
"""

from collections.abc import Iterator, Sequence

from tests.hostile import pickle_writer as p

DEPTH = 300_000
"""Of nested values: more calls within each other than a stack holds."""

_TOUCH = p.text("touch $CANARY")
_OPENS = "import os; open(os.environ['CANARY'], 'w')"


def acting_pickles() -> Iterator[tuple[str, bytes]]:
    """Yield what makes a file when it is unpickled by an unpickler that knows no bounds."""
    for module in ("os", "posix"):
        yield f"{module}.system", p.called(p.name_of(module, "system"), _TOUCH)
    for name in ("eval", "exec"):
        what = _OPENS if name == "exec" else f"exec({_OPENS!r})"
        for module in ("builtins", "__builtin__"):
            yield f"{module}.{name}", p.called(p.name_of(module, name), p.text(what))
    for name in ("run", "call", "check_output", "Popen", "getoutput"):
        call = p.tuple_of(p.text("sh"), p.text("-c"), _TOUCH)
        yield f"subprocess.{name}", p.called(p.name_of("subprocess", name), call)
    for module, name in (
        *(("runpy", "run_path"), ("runpy", "_run_code"), ("pickle", "loads"), ("torch", "load")),
        *(("torch.hub", "load"), ("torch.jit", "load"), ("torch.serialization", "load")),
        *(("torch.package", "PackageImporter"), ("torch._utils", "_import_dotted_name")),
        *(("torch.utils.cpp_extension", "load_inline"), ("torch.ops", "load_library")),
        *(("importlib", "import_module"), ("builtins", "__import__"), ("builtins", "getattr")),
        *(("operator", "attrgetter"), ("functools", "partial"), ("types", "FunctionType")),
        *(("ctypes", "CDLL"), ("webbrowser", "open"), ("shutil", "rmtree"), ("builtins", "open")),
        *(("numpy.core.multiarray", "_reconstruct"), ("numpy", "load"), ("nt", "system")),
        *(("receptance.cli", "main"), ("torch.nn.parameter", "Parameter.__init_subclass__")),
        *(("torch", "Tensor.__setstate__"), ("torch._tensor", "_rebuild_from_type")),
        *(("torch.\nstorage", "x"), ("", ""), ("\x1b[2J", "\x1b]0;x\x07"), ("torch", "…" * 999)),
    ):
        yield f"{module}.{name:.30}"[:60], p.called(p.name_of(module, name), p.text("$CANARY"))
    stack = p.name_of("posix", "system")
    yield "INST", p.MARK + _TOUCH + b"iposix\nsystem\n"
    yield "OBJ", p.MARK + stack + _TOUCH + b"o"
    yield "NEWOBJ", stack + p.tuple_of(_TOUCH) + p.NEWOBJ
    yield "NEWOBJ_EX", stack + p.tuple_of(_TOUCH) + p.EMPTY_DICT + b"\x92"
    yield "STACK_GLOBAL", p.text("posix") + p.text("system") + b"\x93" + p.tuple_of(_TOUCH) + b"R"
    yield "EXT1", b"\x82\x01" + p.tuple_of(_TOUCH) + p.REDUCE
    yield "PERSID", b"Pstorage\n"


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield pickles of a few bytes that would take much time, memory or stack."""
    length = p.integer(3 << 30)
    yield "a bytearray", p.called(p.name_of("builtins", "bytearray"), length)
    yield (
        "a bytearray, by NEWOBJ",
        p.name_of("builtins", "bytearray") + p.tuple_of(length) + b"\x81",
    )
    yield "a tensor of a size", p.called(p.name_of("torch", "FloatTensor"), length)
    yield "a Tensor of a size", p.called(p.name_of("torch", "Tensor"), length)
    yield "a storage of a size", p.called(p.name_of("torch.storage", "UntypedStorage"), length)
    yield "a Size", p.called(p.name_of("torch", "Size"), p.tuple_of(*[length] * 2000))
    encode = p.name_of("_codecs", "encode")
    yield "text encoded again", p.called(encode, p.text("x" * 9), p.text("punycode"))
    yield "text of a strange code", p.called(encode, p.text("x"), p.text("\x1b[2J"))
    for name, nest in (("tuples", p.TUPLE1), ("pairs", p.NONE + p.TUPLE2)):
        deep = p.NONE + nest * DEPTH
        yield f"deep {name}", deep
        yield f"deep {name} as a key", p.EMPTY_DICT + deep + p.NONE + p.SETITEM
    lists = p.EMPTY_LIST * DEPTH + p.APPEND * (DEPTH - 1)
    yield "deep lists", lists
    yield "deep lists as a weight", p.dictionary({"emb.weight": lists})
    yield "deep marks", p.MARK * DEPTH + p.NONE + p.TUPLE * DEPTH
    yield "deep marks as a key", p.EMPTY_DICT + p.MARK * DEPTH + p.TUPLE * DEPTH + p.NONE + b"s"
    laughs = p.text("lol") + b"".join(p.put(i) + p.get(i) + p.TUPLE2 for i in range(200))
    yield "laughs", laughs
    yield "laughs as a key", p.EMPTY_DICT + laughs + p.NONE + p.SETITEM
    yield "laughs as a weight", p.dictionary({"emb.weight": laughs})
    joined = p.EMPTY_LIST + p.put(0) + p.text("lol") + p.APPEND
    for index in range(40):
        joined += p.EMPTY_LIST + p.put(index + 1) + p.MARK + p.get(index) * 10 + b"e"
    yield "lists of lists of lists", joined
    itself = p.EMPTY_DICT + p.put(0) + p.text("emb.weight") + p.get(0) + p.SETITEM
    yield "a dictionary in itself", itself
    within = p.EMPTY_LIST + p.put(0) + p.get(0) + p.APPEND
    yield "a list in itself", p.dictionary({"emb.weight": within})
    yield "a set of laughs", p.called(p.name_of("builtins", "set"), p.tuple_of(laughs))
    yield "a Counter of laughs", p.called(p.name_of("collections", "Counter"), p.tuple_of(laughs))
    yield (
        "an OrderedDict of laughs",
        p.called(p.name_of("collections", "OrderedDict"), p.tuple_of(p.tuple_of(laughs, p.NONE))),
    )
    yield "a vast text", b"X\xff\xff\xff\xffx"
    yield "a vast text of 64 bits", b"\x8d" + b"\xff" * 7 + b"\x7fx"
    yield "vast bytes", b"\x8e" + b"\xff" * 7 + b"\x7fx"
    yield "a vast frame", b"\x95" + b"\xff" * 8
    yield "a vast integer", b"\x8b\xff\xff\xff\x7f" + b"9"
    yield "a vast decimal", b"I" + b"9" * 1_000_000 + b"\n"
    yield "a memo of a vast index", p.NONE + p.put(2**32 - 1)
    yield "a memo that is not there", p.get(7)
    yield "names that are many", p.dictionary({f"blocks.{i}.x": p.NONE for i in range(30_000)})
    yield "a name that is long", p.dictionary({"x" * 300_000: p.NONE})
    yield "a name that acts on a terminal", p.dictionary({"\x1b[2J\x07\n": p.NONE})
    yield "a name that is a lone surrogate", p.dictionary({"\ud800": p.NONE})


def broken() -> Iterator[tuple[str, bytes]]:
    """Yield pickles that end early, or whose stack is not what it must be."""
    yield "nothing", b""
    for name in ("REDUCE", "BUILD", "NEWOBJ", "PERSISTENT", "APPEND", "SETITEM", "SETITEMS"):
        opcode = getattr(p, name)
        for stack in (b"", p.NONE, p.NONE + p.NONE, p.EMPTY_DICT + p.NONE, p.EMPTY_TUPLE * 3):
            yield f"{name} of {stack!r}", stack + opcode
    for name in ("TUPLE", "TUPLE1", "TUPLE2", "POP", "DUP"):
        yield f"{name} of nothing", getattr(p, name)
    for key in (
        p.NONE,
        p.TRUE,
        p.integer(5),
        p.real(0.5),
        p.EMPTY_TUPLE,
        p.EMPTY_DICT,
        p.EMPTY_SET,
    ):
        yield f"the key {key!r}", p.EMPTY_DICT + key + p.NONE + p.SETITEM
    attribute = p.ORDERED_DICT + p.dictionary({"keys": p.NONE, "__class__": p.NONE}) + p.BUILD
    yield "a dictionary with other attributes", attribute
    for value in (p.NONE, p.TRUE, p.integer(1), p.real(1.0), p.text("x"), p.EMPTY_SET):
        yield f"the value {value!r}", value


def tensors(shape: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Yield tensors of the record "0" that are not what they say, of a shape that it holds."""
    count = 1
    for axis in shape:
        count *= axis
    size, zero = p.numbers(*shape), p.integer(0)
    stride = p.numbers(count // shape[0], 1)
    of = p.storage(p.text("0"), p.integer(count))
    odd = (-1, 1, 3, 2**31, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64, 2**200)
    for value in odd:
        number = p.integer(value)
        yield f"offset {value}", p.tensor(of, number, size, stride)
        yield f"rows {value}", p.tensor(of, zero, p.tuple_of(number, p.integer(1)), stride)
        yield f"columns {value}", p.tensor(of, zero, p.tuple_of(p.integer(1), number), stride)
        yield f"a stride {value}", p.tensor(of, zero, size, p.tuple_of(number, p.integer(1)))
        yield f"strides {value}", p.tensor(of, zero, size, p.tuple_of(number, number))
        if value != 1:
            claimed = p.storage(p.text("0"), number)
            yield f"a storage of {value}", p.tensor(claimed, zero, size, stride)
            yield (
                f"as many rows, {value}",
                p.tensor(claimed, zero, p.tuple_of(number), p.numbers(1)),
            )
    yield "strides of nothing", p.tensor(of, zero, p.numbers(2**31, 2**31), p.numbers(0, 0))
    yield "seventy axes", p.tensor(of, zero, p.numbers(*[1] * 70), p.numbers(*[1] * 70))
    yield "axes without strides", p.tensor(of, zero, size, p.EMPTY_TUPLE)
    for value in (p.NONE, p.text("x"), p.real(1.0), p.real(float("nan")), p.EMPTY_LIST, p.TRUE):
        yield f"offset {value!r}", p.tensor(of, value, size, stride)
        yield f"size {value!r}", p.tensor(of, zero, value, stride)
        yield f"stride {value!r}", p.tensor(of, zero, size, value)
        yield f"storage {value!r}", p.tensor(value, zero, size, stride)
        claimed = p.storage(p.text("0"), value)
        yield f"a storage of {value!r}", p.tensor(claimed, zero, size, stride)
    for key in ("9999", "", "../../etc/passwd", "/etc/passwd", "0\0", "../data.pkl", "x" * 70_000):
        named = p.storage(p.text(key), p.integer(count))
        yield f"the record {key[:20]!r}", p.tensor(named, zero, size, stride)
    for key in (p.NONE, p.integer(0), p.EMPTY_LIST, p.EMPTY_TUPLE):
        yield f"the record {key!r}", p.tensor(p.storage(key, p.integer(count)), zero, size, stride)
    yield from _of_kinds(count, size, stride)


def _of_kinds(count: int, size: bytes, stride: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield tensors of other kinds, other devices and other functions."""
    zero, number = p.integer(0), p.integer(count)
    for kind in ("DoubleStorage", "LongStorage", "BoolStorage", "ComplexDoubleStorage",
                 "QInt8Storage", "NoStorage", "Tensor", "Size"):  # fmt: skip
        of = p.storage(p.text("0"), number, kind)
        yield f"a {kind}", p.tensor(of, zero, size, stride)
    for where in (p.text("cuda:0"), p.text("meta"), p.text("x"), p.NONE, p.text("\x1b[2J")):
        of = p.storage(p.text("0"), number, location=where)
        yield f"on {where!r}", p.tensor(of, zero, p.numbers(count * 9), stride)
    of = p.storage(p.text("0"), number)
    for parts in ((), (of,), (of,) * 5, (p.text("storage"), of, of, of, of), (p.NONE,) * 5):
        yield (
            f"an id of {len(parts)} parts",
            p.tensor(p.tuple_of(*parts) + p.PERSISTENT, zero, size, stride),
        )
    like = p.called(p.name_of("torch._utils", "_rebuild_tensor_v2"), *(p.NONE,) * 6)
    yield "a tensor of nothing", like
    yield from _of_functions(of, size, stride)


def _of_functions(of: bytes, size: bytes, stride: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what other functions than that of a plain tensor would give."""
    zero = p.integer(0)
    whole = p.tensor(of, zero, size, stride)
    rebuild = "torch._utils"
    yield (
        "a sparse tensor",
        p.called(
            p.name_of(rebuild, "_rebuild_sparse_tensor"),
            *(
                p.called(
                    p.name_of("torch.serialization", "_get_layout"), p.text("torch.sparse_coo")
                ),
            ),
            p.tuple_of(whole, whole, size, p.FALSE),
        ),
    )
    meta = p.name_of("torch", "float32"), p.numbers(2**31, 2**31), p.numbers(2**31, 1), p.FALSE
    yield (
        "a tensor without memory",
        p.called(p.name_of(rebuild, "_rebuild_meta_tensor_no_storage"), *meta),
    )
    subclass = p.name_of("torch", "Tensor"), meta[0], p.numbers(2**40), p.numbers(1), zero
    yield (
        "a subclass",
        p.called(
            p.name_of(rebuild, "_rebuild_wrapper_subclass"),
            *subclass,
            *(p.NONE, p.text("cpu"), p.FALSE),
        ),
    )
    parameter = p.called(p.name_of(rebuild, "_rebuild_parameter"), p.NONE, p.TRUE, p.ORDERED_DICT)
    yield "a parameter of nothing", parameter
    state = p.tuple_of(p.dictionary({"__class__": p.NONE, "data": p.NONE}), p.dictionary({}))
    yield (
        "a tensor with a state",
        p.called(
            p.name_of("torch._tensor", "_rebuild_from_type_v2"),
            *(p.name_of(rebuild, "_rebuild_tensor_v2"), p.name_of("torch", "Tensor")),
            *(p.tuple_of(of, zero, size, stride, p.FALSE, p.ORDERED_DICT), state),
        ),
    )
    yield "a tensor that is set anew", whole + p.tuple_of(of, zero, size, stride) + p.BUILD
    yield (
        "a tensor that is set to what is not there",
        whole + p.tuple_of(of, p.integer(2**40), size, stride) + p.BUILD,
    )

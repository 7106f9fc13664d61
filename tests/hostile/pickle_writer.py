"""Pickles written opcode by opcode, since what makes them would rather run what is in them.

The functions return the bytes that put something on the unpickler's stack.
"""

import struct

MARK, STOP, POP, DUP, NONE = b"(", b".", b"0", b"2", b"N"
TRUE, FALSE = b"\x88", b"\x89"
EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET = b")", b"]", b"}", b"\x8f"
TUPLE, TUPLE1, TUPLE2 = b"t", b"\x85", b"\x86"
REDUCE, BUILD, NEWOBJ, PERSISTENT = b"R", b"b", b"\x81", b"Q"
APPEND, SETITEM, SETITEMS = b"a", b"s", b"u"


def whole(body: bytes, protocol: int = 2) -> bytes:
    """Return the pickle of what `body` puts on the stack."""
    return b"\x80" + bytes([protocol]) + body + STOP


def name_of(module: str, name: str) -> bytes:
    """Return the look-up of a name in a module."""
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def text(value: str) -> bytes:
    """Return a text."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    """Return an integer of any size up to 255 bytes."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def real(value: float) -> bytes:
    """Return a floating-point number."""
    return b"G" + struct.pack(">d", value)


def tuple_of(*parts: bytes) -> bytes:
    """Return a tuple."""
    return MARK + b"".join(parts) + TUPLE


def numbers(*values: int) -> bytes:
    """Return a tuple of integers."""
    return tuple_of(*map(integer, values))


def dictionary(entries: dict[str, bytes]) -> bytes:
    """Return a dictionary by text."""
    return EMPTY_DICT + MARK + b"".join(text(k) + v for k, v in entries.items()) + SETITEMS


def put(index: int) -> bytes:
    """Return what notes the top of the stack as `index`."""
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    """Return what was noted as `index`."""
    return b"j" + struct.pack("<I", index)


def called(function: bytes, *arguments: bytes) -> bytes:
    """Return what a function gives."""
    return function + tuple_of(*arguments) + REDUCE


ORDERED_DICT = name_of("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE


def storage(
    key: bytes, count: bytes, kind: str = "FloatStorage", location: bytes | None = None
) -> bytes:
    """Return the storage that is a record of the archive."""
    where = text("cpu") if location is None else location
    return tuple_of(text("storage"), name_of("torch", kind), key, where, count) + PERSISTENT


def tensor(of: bytes, offset: bytes, size: bytes, stride: bytes) -> bytes:
    """Return a tensor of a storage."""
    rebuild = name_of("torch._utils", "_rebuild_tensor_v2")
    return called(rebuild, of, offset, size, stride, FALSE, ORDERED_DICT)


def plain_tensor(key: str, shape: tuple[int, ...]) -> bytes:
    """Return a tensor of float32 as `torch.save` describes it."""
    strides, count = [], 1
    for axis in reversed(shape):
        strides.insert(0, count)
        count *= axis
    of = storage(text(key), integer(count))
    return tensor(of, integer(0), numbers(*shape), numbers(*strides))

"""What a pickle of named tensors may say, checked before PyTorch's unpickler reads it.

That unpickler runs no code, but it does as it is told: a few bytes ask it for a `bytearray` of all
the memory, or for a dictionary whose key is a tuple in a tuple a million times, at whose hash the
stack ends and with it the process, or for one that holds itself twice a hundred times over, whose
hash never ends. So the opcodes are followed here first, with nothing made but a note of what each
would make; only what `torch.save` writes of a state dict goes through.
"""

import pickletools
from dataclasses import dataclass, field
from typing import Any

_MAX_OPCODES = 300_000  # that of the largest RWKV-4 has a tenth
_MAX_DEPTH = 16
_MAX_NUMBER = 1 << 48  # bytes of memory that a processor can address

_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED = "collections.OrderedDict"
_STORAGES = {
    *(f"torch.{kind}Storage" for kind in ("Double", "Float", "Half", "BFloat16")),
    *(f"torch.{kind}Storage" for kind in ("Long", "Int", "Short", "Char", "Byte", "Bool")),
}
_NAMES = {_TENSOR, _PARAMETER, _ORDERED, *_STORAGES}
_TYPES_OF_KEYS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class _Global:
    """What a pickle looks up in a module."""

    name: str


@dataclass(frozen=True)
class _Made:
    """What an opcode would make: "list" or "tensor"."""

    kind: str


@dataclass(frozen=True)
class _Storage:
    """A part of the file with so many numbers."""

    count: int


@dataclass(frozen=True, eq=False)
class _Dict:
    """A dictionary that an opcode would make."""

    names: set[Any] = field(default_factory=set)


_LIST, _WEIGHT = map(_Made, ("list", "tensor"))

_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PLAIN = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}


def check_pickle(content: bytes) -> set[str]:
    """Return the keys of the storages of a pickle that makes tensors by name and plain values.

    Raises:
        ValueError: With a clause that says what it would make.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count >= _MAX_OPCODES:
            raise ValueError(f"its pickle has more than {_MAX_OPCODES:,} opcodes")
        try:
            machine.run(opcode.name, argument)
        except LookupError:
            raise ValueError(f"{opcode.name} in its pickle lacks what it works on") from None
    return machine.keys


class _Machine:
    """The stack of an unpickler, with notes in the place of values."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        """Of the storages that it asked for."""
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, opcode: str, argument: Any) -> None:
        """Follow an opcode.

        Raises:
            LookupError: If the stack or the memo has not what it needs.
            ValueError: If it is of none that is known, or does what it must not.
        """
        if opcode in _VALUES:
            self._stack.append(_VALUES[opcode])
        elif opcode in _PLAIN:
            self._stack.append(argument)
        elif opcode in ("EMPTY_DICT", "EMPTY_LIST"):
            self._stack.append(_Dict() if opcode == "EMPTY_DICT" else _LIST)
        elif opcode == "MARK":
            self._mark()
        elif opcode == "GLOBAL":
            self._stack.append(_known(argument))
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif opcode.startswith("TUPLE"):
            count = opcode.removeprefix("TUPLE")
            items = self._pop(int(count)) if count else self._to_mark()
            self._stack.append(_tuple(items))
        else:
            self._act(opcode)

    def _act(self, opcode: str) -> None:
        """Follow an opcode that does something with what is on the stack."""
        if opcode in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if opcode == "SETITEM" else self._to_mark()
            _check_items(items, self._stack[-1])
        elif opcode in ("APPEND", "APPENDS"):
            items = self._pop(1) if opcode == "APPEND" else self._to_mark()
            if self._stack[-1] is not _LIST or _LIST in items:
                message = "its pickle appends to what is no list, or a list to a list"
                raise ValueError(message)
        elif opcode == "BINPERSID":
            key, count = _storage(*self._pop(1))
            self.keys.add(key)
            self._stack.append(_Storage(count))
        elif opcode == "REDUCE":
            self._stack.append(_result(*self._pop(2)))
        elif opcode == "BUILD":
            made, state = self._pop(2)
            # What `Module.state_dict` notes of versions. Any other name could hide a method.
            are_dicts = isinstance(made, _Dict) and isinstance(state, _Dict)
            if not are_dicts or state.names != {"_metadata"}:
                message = "its pickle gives a state to what has none"
                raise ValueError(message)
            self._stack.append(made)
        elif opcode not in ("PROTO", "STOP"):
            raise ValueError(f"it asks for {opcode}")

    def _mark(self) -> None:
        if len(self._marked) >= _MAX_DEPTH:
            message = "its pickle holds values within values without end"
            raise ValueError(message)
        self._marked.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError
        items = self._stack[-count:]
        del self._stack[-count:]
        return items


def _known(argument: str) -> _Global:
    name = ".".join(argument.split(" ", 1))
    if name not in _NAMES:
        raise ValueError(f"it asks for {name!r:.80}")
    return _Global(name)


def _tuple(items: list[Any]) -> tuple[Any, ...]:
    """Return a tuple of notes; one in a tuple in a tuple is none that tensors have."""
    if any(isinstance(part, tuple) for each in items if isinstance(each, tuple) for part in each):
        message = "its pickle holds tuples in tuples in tuples"
        raise ValueError(message)
    return tuple(items)


def _check_items(items: list[Any], target: object) -> None:
    if not isinstance(target, _Dict) or len(items) % 2:
        message = "its pickle sets entries of what is no dictionary"
        raise ValueError(message)
    for key in items[::2]:
        if type(key) not in _TYPES_OF_KEYS:
            message = "a name in its pickle is neither a text nor a number"
            raise ValueError(message)
        target.names.add(key)


def _storage(identity: object) -> tuple[str, int]:
    """Return the key and the length of a storage, if its identity is that of one."""
    match identity:
        case ("storage", _Global(name), str(key), str(), int(count)) if (
            name in _STORAGES and type(count) is int and 0 <= count < _MAX_NUMBER
        ):
            return key, count
    message = "its pickle asks for a part of the file that holds no numbers"
    raise ValueError(message)


def _result(function: object, arguments: object) -> _Made | _Dict:
    """Return the note of what a function gives."""
    match function, arguments:
        case _Global(name), () if name == _ORDERED:
            return _Dict()
        case _Global(name), (_Made("tensor"), bool(), _Dict()) if name == _PARAMETER:
            return _WEIGHT
        case _Global(name), (
            _Storage(count), int(offset), tuple(size), tuple(stride), bool(), _Dict(), *rest
        ) if name == _TENSOR:  # fmt: skip
            numbers = [offset, *size, *stride]
            are_sizes = all(type(n) is int and 0 <= n < _MAX_NUMBER for n in numbers)
            are_as_many = len(size) == len(stride) and len(rest) <= 1
            if are_sizes and are_as_many and _end(offset, size, stride) <= count:
                return _WEIGHT
    message = "its pickle calls a function with what that does not take"
    raise ValueError(message)


def _end(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return the number of a storage at which a tensor in it ends."""
    if 0 in size:
        return 0
    return offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))

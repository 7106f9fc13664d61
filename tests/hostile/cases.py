"""Files that should not load, as whole folders: what every format has in common.

A case is what lies in a folder, described and not yet written, so that five hundred of them cost
nothing until each is read. All of it is drawn from seeds: the same cases at every run.
"""

import math
import os
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Content = bytes | Callable[[Path], object]
"""What a file holds, or what puts something else in its place."""
Files = Mapping[str, Content]


@dataclass(frozen=True)
class Case:
    """A checkpoint that is damaged or hostile."""

    name: str
    """What was done to it."""
    files: Files
    """What lies in the folder, by path from there."""
    target: str
    """What is opened, from the same folder."""
    may_load: bool = False
    """Whether it may be a whole other model; if not, it must be refused."""
    is_whole: bool = False
    """Whether nothing was done to it, and it must load."""

    def lay(self, folder: Path) -> Path:
        """Write the files into an empty folder and return what is to be opened."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content(path)
        return folder / self.target


def undamaged(*files: Files, target: str) -> list[Case]:
    """Return the cases of files to which nothing was done."""
    return [Case("nothing", each, target, is_whole=True) for each in files]


def sample(cases: Iterable[Case], count: int, seed: int = 0) -> list[Case]:
    """Return as many of the cases, drawn without order; all if there are no more."""
    known = list(cases)
    return known if len(known) <= count else random.Random(seed).sample(known, count)


def flipped(content: bytes, header: int, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes with a few bits flipped or bytes set; three of four times in the header.

    Args:
        content: Of the file.
        header: The length of its header.
        count: How many.
        seed: Of what is drawn.
    """
    draw = random.Random(seed)
    for index in range(count):
        damaged = bytearray(content)
        end = min(header, len(content)) if index % 4 else len(content)
        for _ in range(draw.choice((1, 1, 2, 3, 8))):
            place = draw.randrange(end)
            bit = 1 << draw.randrange(8)
            damaged[place] = draw.choice((damaged[place] ^ bit, 0, 0xFF, draw.randrange(256)))
        yield f"flipped {index}", bytes(damaged)


def cut(
    content: bytes, borders: Iterable[int], count: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes cut short at and beside each border, then anywhere, `count` in all."""
    draw = random.Random(seed)
    near = [place + step for place in borders for step in (-1, 0, 1)]
    known = sorted({place for place in near if 0 <= place < len(content)})
    places = draw.sample(known, min(len(known), count * 2 // 3))
    places += [draw.randrange(len(content)) for _ in range(count - len(places))]
    for place in places:
        yield f"cut at {place} of {len(content)}", content[:place]


def longer(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes with more of them behind or before."""
    yield "a byte more", content + b"\0"
    yield "twice", content + content
    yield "a page more", content + b"\xff" * 4096
    yield "a byte before", b"\0" + content
    yield "a page before", bytes(4096) + content


def sparse(size: int, content: bytes = b"") -> Callable[[Path], None]:
    """Return what makes a file of a size that hardly takes any disk."""

    def make(path: Path) -> None:
        path.write_bytes(content)
        os.truncate(path, size)

    return make


def link(target: str) -> Callable[[Path], None]:
    """Return what makes a symbolic link."""
    return lambda path: path.symlink_to(target)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


NO_FILES: dict[str, Content] = {
    "empty": b"",
    "a FIFO": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": _socket,
    "a device without end": link("/dev/zero"),
    "a device that is empty": link("/dev/null"),
    "a terminal": link("/dev/tty"),
    "the memory of the process": link("/proc/self/mem"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": link("nothing"),
    "a link to a folder": link(".."),
    "a terabyte of nothing": sparse(1 << 40),
}
"""What can lie where a file should."""


def json_bombs(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what is no JSON, or JSON that takes more than it should."""
    depth = 200_000
    yield "depth of lists", b"[" * depth + b"]" * depth
    yield "depth of objects", b'{"a":' * depth + b"1" + b"}" * depth
    yield "depth without end", b"[" * depth
    yield "depth in an entry", good.rstrip().removesuffix(b"}") + b',"x":' + b"[" * depth + b"}"
    yield "a number of many digits", b'{"n_layer": ' + b"9" * 100_000 + b"}"
    yield "an exponent", b'{"n_layer": 1e999999999}'
    yield "no UTF-8", good[:-3] + b"\xff\xfe" + good[-3:]
    yield "UTF-16", good.decode().encode("utf-16")
    yield "a byte order mark", b"\xef\xbb\xbf" + good
    yield "two documents", good + good
    yield "NUL", good + b"\0"
    yield "a lone surrogate", b'{"\\ud800": "\\udfff"}'
    yield "control characters", b'{"\\u001b[2J\\u0007": "\\u001b]0;x\\u0007"}'
    yield "spaces alone", b" " * 100_000
    for text in ("null", "true", "1", "-1e9", '"text"', "[]", "[[]]", "{}", "NaN", "Infinity"):
        yield f"the value {text}", text.encode()


IMPOSSIBLE_SIZES: list[object] = [
    *(0, -1, -(2**31), 2**31, 2**31 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30)),
    *(True, False, None, math.nan, math.inf, -math.inf, 1.0, 1.5, 1e300),
    *("", "1", "8", "\x1b[2J", [], [8], {}, {"n": 8}, 999_999, 65_536),
]
"""What is no size of a model of a few kilobytes."""

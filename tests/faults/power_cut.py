"""What a disk may hold after the power went, worked out from the journal of a run.

A file holds at least what it held when it was last flushed, and of what was written since any
beginning. A folder has the names that it had when it was last flushed; of the changes since, any
may be there and any may not, in any combination, as the most careless file system would have it. A
rename is one change: never half of it is there.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias


@dataclass
class File:
    """A file: what it holds, and what of that is on the disk."""

    content: bytes = b""
    flushed: bytes = b""


@dataclass
class Folder:
    """A folder: its names, those on the disk, and the changes between the two."""

    names: "dict[str, Inode]" = field(default_factory=dict)
    flushed: "dict[str, Inode]" = field(default_factory=dict)
    pending: "list[dict[str, Inode | None]]" = field(default_factory=list)
    """Each change as the names that it sets, None for one that it takes away."""

    def change(self, **names: "Inode | None") -> None:
        """Make a change, in memory only."""
        self.pending.append(names)
        _apply(self.names, names)


Inode: TypeAlias = File | Folder


class Call(NamedTuple):
    """A line of the journal."""

    name: str
    path: str
    argument: str


def read_journal(path: Path) -> list[Call]:
    """Return the calls of a journal."""
    return [Call(*line.split("\t")) for line in path.read_text().splitlines()]


class Disk:
    """A disk on which calls are done, and whose power may go at any time."""

    def __init__(self) -> None:
        """Begin with one empty folder, which is on the disk."""
        self.root = Folder()

    def do(self, call: Call) -> None:
        """Do a call of the journal."""
        if call.name == "fsync":
            self._flush(self._find(call.path))
            return
        if not call.path:  # the folder itself was made
            return
        folder, name = self._place(call.path)
        if call.name == "mkdir":
            folder.change(**{name: Folder()})
        elif call.name in ("make", "open") and name not in folder.names:
            folder.change(**{name: File()})
        elif call.name == "make":
            self._file(call.path).content = b""
        elif call.name == "write":
            self._file(call.path).content += bytes.fromhex(call.argument)
        elif call.name == "unlink":
            folder.change(**{name: None})
        elif call.name in ("rename", "exchange"):
            target, new = self._place(call.argument)
            assert target is folder, "every rename is within a folder"
            other = folder.names[new] if call.name == "exchange" else None
            folder.change(**{name: other, new: folder.names[name]})

    def cut(self, generator: random.Random, place: Path) -> None:
        """Write into a folder what the disk may hold if the power goes now."""
        place.mkdir()
        _write(self.root, generator, place)

    def _flush(self, inode: Inode) -> None:
        if isinstance(inode, File):
            inode.flushed = inode.content
        else:
            inode.flushed, inode.pending = dict(inode.names), []

    def _place(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._find(above)
        assert isinstance(folder, Folder)
        return folder, name

    def _file(self, path: str) -> File:
        file = self._find(path)
        assert isinstance(file, File)
        return file

    def _find(self, path: str) -> Inode:
        inode: Inode = self.root
        for name in path.split("/")[1:]:
            assert isinstance(inode, Folder)
            inode = inode.names[name]
        return inode


def _apply(names: dict[str, Inode], change: dict[str, Inode | None]) -> None:
    for name, inode in change.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _write(folder: Folder, generator: random.Random, place: Path) -> None:
    names = dict(folder.flushed)
    # How careless this disk was: none of the changes is there, or some, or all.
    share = generator.choice([0.0, 0.3, 0.7, 1.0])
    for change in folder.pending:
        if generator.random() < share:
            _apply(names, change)
    for name, inode in names.items():
        path = place / name
        if isinstance(inode, Folder):
            path.mkdir()
            _write(inode, generator, path)
        else:
            path.write_bytes(_content(inode, generator))


def _content(file: File, generator: random.Random) -> bytes:
    """Return what is flushed, or some beginning of what was written since."""
    if file.content == file.flushed or not file.content.startswith(file.flushed):
        return generator.choice([file.content, file.flushed])
    end = generator.choice(
        [
            len(file.flushed),
            len(file.content),
            generator.randint(len(file.flushed), len(file.content)),
        ]
    )
    return file.content[:end]

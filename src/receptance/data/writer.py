"""Writes one split of a token store: its tokens, its documents and their hashes."""

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Integer

from receptance.data.manifest import MaskManifest, SplitManifest
from receptance.data.mask import Counted
from receptance.errors import DataError

BLOCK_BYTES = 64 << 20
"""How much of a file one hash covers."""

ENTRY_BYTES = 16
"""Of a document in the `.docs` file."""


READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SplitProgress:
    """How far the files of a split were written.

    Attributes:
        n_tokens: Tokens of the `.bin` file.
        n_bytes: Bytes of text that they stand for.
        n_documents: Documents that have ended, the entries of the `.docs` file.
        first_token: Where the document that is being written begins.
        first_byte: The same in bytes of text.
        sha256: The hashes of the `.bin` file's blocks.
        documents_sha256: Those of the `.docs` file's.
        mask: What was written of the `.mask` file; None where there is none.
    """

    n_tokens: int
    n_bytes: int
    n_documents: int
    first_token: int
    first_byte: int
    sha256: list[str]
    documents_sha256: list[str]
    mask: MaskManifest | None = None


class BlockHashes:
    """The SHA-256 of each 64 MiB of what is fed, the last block being shorter."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._hash = hashlib.sha256()
        self._n_bytes = 0

    def update(self, data: memoryview) -> None:
        """Take the next bytes into account."""
        while len(data):
            part = data[: BLOCK_BYTES - self._n_bytes]
            self._hash.update(part)
            self._n_bytes += len(part)
            data = data[len(part) :]
            if self._n_bytes == BLOCK_BYTES:
                self._done.append(self._hash.hexdigest())
                self._hash, self._n_bytes = hashlib.sha256(), 0

    def hexdigests(self) -> list[str]:
        """Return the hashes of all blocks so far; none for no bytes."""
        return [*self._done, self._hash.hexdigest()] if self._n_bytes else list(self._done)


class HashedFile:
    """A new file, or one that is written on, hashed as it is written."""

    def __init__(self, path: Path, kept: int | None = None) -> None:
        """Create the file, or cut it down to its first `kept` bytes and hash these.

        Raises:
            OSError: If there is one to be created, or it cannot be read or written.
        """
        self.hashes = BlockHashes()
        self._path = path
        if kept is None:
            self._file = path.open("xb")
            return
        self._file = path.open("r+b")
        left = kept
        while left and (data := self._file.read(min(READ_BYTES, left))):
            self.hashes.update(memoryview(data))
            left -= len(data)
        self._file.truncate(kept - left)

    def sync(self) -> None:
        """Wait until all bytes are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def write(self, data: memoryview) -> None:
        """Append bytes.

        Raises:
            OSError: If they cannot be written, with the file's name.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self.hashes.update(data)

    def close(self) -> None:
        """Hand all bytes to the operating system.

        Raises:
            OSError: If it does not take them, with the file's name.
        """
        try:
            self._file.close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


class SplitWriter:
    """The `.bin` and `.docs` files of one split, in the making.

    With a mask there is a `.mask` file too. Used as a context manager, which closes the files.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        dtype: str,
        end_of_text: int,
        begun: SplitProgress | None = None,
        *,
        has_mask: bool = False,
    ) -> None:
        """Create the files, or go on with those that are there.

        Args:
            folder: Where they are created.
            name: "train" or "valid".
            dtype: "uint16" or "uint32".
            end_of_text: The token to write after every document; it counts.
            begun: How far the files were when `sync` returned it; None for new ones.
            has_mask: Whether it is written which tokens count.

        Raises:
            DataError: If the files that are there are not those of `begun`.
        """
        self.n_tokens = begun.n_tokens if begun else 0
        self.n_bytes = begun.n_bytes if begun else 0
        self.n_documents = begun.n_documents if begun else 0
        self._first_token = begun.first_token if begun else 0
        self._first_byte = begun.first_byte if begun else 0
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._end_of_text = np.array([end_of_text], self._dtype)
        kept = begun and begun.n_tokens * self._dtype.itemsize
        self._tokens = HashedFile(folder / f"{name}.bin", kept)
        kept = begun and begun.n_documents * ENTRY_BYTES
        self._documents = HashedFile(folder / f"{name}.docs", kept)
        self._mask = MaskWriter(folder / f"{name}.mask", begun) if has_mask else None
        if begun is not None and self._progress() != begun:
            self._close()
            raise DataError(
                f"the files of {name!r} in {str(folder)!r} must be as an interrupted process left "
                "them, but they were changed; prepare it again, from the beginning"
            )

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        with ExitStack() as stack:
            for file in (self._tokens, self._documents, self._mask):
                if file is not None:
                    stack.callback(file.close)

    def append(
        self, tokens: Integer[np.ndarray, " n"], n_bytes: int, counted: Counted | None = None
    ) -> None:
        """Append tokens to the document that is being written.

        Args:
            tokens: Ids that the vocabulary has.
            n_bytes: How many bytes of text they stand for.
            counted: How many of them count, the first ones; None for all. Without a mask all do.
        """
        if tokens.size:
            self._tokens.write(_bytes_of(tokens.astype(self._dtype)))
        if self._mask is not None:
            self._mask.append(tokens.size, counted or Counted(tokens.size, n_bytes))
        self.n_tokens += tokens.size
        self.n_bytes += n_bytes

    def end_document(self) -> None:
        """End the document that is being written; the next token begins another."""
        entry = np.array([self._first_token, self.n_bytes - self._first_byte], "<u8")
        self._documents.write(_bytes_of(entry))
        self._tokens.write(_bytes_of(self._end_of_text))
        if self._mask is not None:
            self._mask.append(1, Counted(1, 0))
        self.n_tokens += 1
        self.n_documents += 1
        self._first_token, self._first_byte = self.n_tokens, self.n_bytes

    def sync(self) -> SplitProgress:
        """Wait until all is on the disk, and return how far it is.

        Raises:
            OSError: If the disk fails.
        """
        for file in (self._tokens, self._documents, self._mask):
            if file is not None:
                file.sync()
        return self._progress()

    def _progress(self) -> SplitProgress:
        return SplitProgress(
            n_tokens=self.n_tokens,
            n_bytes=self.n_bytes,
            n_documents=self.n_documents,
            first_token=self._first_token,
            first_byte=self._first_byte,
            sha256=self._tokens.hashes.hexdigests(),
            documents_sha256=self._documents.hashes.hexdigests(),
            mask=None if self._mask is None else self._mask.manifest(),
        )

    def manifest(self) -> SplitManifest:
        """Return the sizes and hashes of what was written."""
        return SplitManifest(
            tokens=self.n_tokens,
            bytes=self.n_bytes,
            documents=self.n_documents,
            sha256=self._tokens.hashes.hexdigests(),
            documents_sha256=self._documents.hashes.hexdigests(),
            mask=None if self._mask is None else self._mask.manifest(),
        )


class MaskWriter:
    """The `.mask` file of one split, in the making."""

    def __init__(self, path: Path, begun: SplitProgress | None = None) -> None:
        """Create the file, or go on where the tokens of a split were `begun`."""
        self._file = HashedFile(path, begun and begun.n_tokens)  # a byte a token
        mask = begun.mask if begun else None
        self._n_tokens, self._n_bytes = (mask.tokens, mask.bytes) if mask else (0, 0)

    def append(self, n_tokens: int, counted: Counted) -> None:
        """Say of the next tokens which count.

        Args:
            n_tokens: How many they are.
            counted: Of the first of them.

        Raises:
            OSError: If it cannot be written.
        """
        if n_tokens:
            mask = np.arange(n_tokens) < counted.n_tokens
            self._file.write(mask.view(np.uint8).data)
        self._n_tokens += counted.n_tokens
        self._n_bytes += counted.n_bytes

    def sync(self) -> None:
        """Wait until all bytes are on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Hand all bytes to the operating system.

        Raises:
            OSError: If it does not take them.
        """
        self._file.close()

    def manifest(self) -> MaskManifest:
        """Return the counts and hashes of what was written."""
        return MaskManifest(
            tokens=self._n_tokens, bytes=self._n_bytes, sha256=self._file.hashes.hexdigests()
        )


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.data.cast("B")

"""Writes one split of a token store: its tokens, its documents and their hashes."""

import hashlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Integer

from receptance.data.manifest import MaskManifest, SplitManifest
from receptance.data.mask import Counted

BLOCK_BYTES = 64 << 20
"""How much of a file one hash covers."""


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
    """A new file, hashed as it is written."""

    def __init__(self, path: Path) -> None:
        self.hashes = BlockHashes()
        self._path = path
        self._file = path.open("xb")

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
        self, folder: Path, name: str, dtype: str, end_of_text: int, *, has_mask: bool = False
    ) -> None:
        """Create the files.

        Args:
            folder: Where they are created.
            name: "train" or "valid".
            dtype: "uint16" or "uint32".
            end_of_text: The token to write after every document; it counts.
            has_mask: Whether it is written which tokens count.
        """
        self.n_tokens = self.n_bytes = self.n_documents = 0
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._end_of_text = np.array([end_of_text], self._dtype)
        self._tokens = HashedFile(folder / f"{name}.bin")
        self._documents = HashedFile(folder / f"{name}.docs")
        self._mask = MaskWriter(folder / f"{name}.mask") if has_mask else None
        self._first_token = self._first_byte = 0

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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

    def __init__(self, path: Path) -> None:
        self._file = HashedFile(path)
        self._n_tokens = self._n_bytes = 0

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

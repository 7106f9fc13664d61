"""The token store: a folder of tokens, ready to be trained on.

train.bin  valid.bin    raw little-endian tokens, no header; `end_of_text` after each document
train.docs valid.docs   uint64 pairs: a document's first token, its bytes of text
train.mask valid.mask   where there are answers: a byte a token, 1 if it is to be predicted, else 0
store.json              what is in the folder, and hashes
tokenizer.json, …       the tokenizer's own file, if it has one
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16, UInt32, UInt64

from receptance.data.manifest import (
    Manifest,
    Source,
    SplitManifest,
    manifest_entries,
    read_manifest,
)
from receptance.data.writer import BLOCK_BYTES, BlockHashes
from receptance.errors import DataError
from receptance.tokenizer import Tokenizer, load_tokenizer

READ_BYTES = 1 << 22

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes in all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The documents of one split, as one stream of tokens on disk.

    Attributes:
        path: The `.bin` file.
        tokens: All tokens, mapped from the file, read-only.
        documents: For each document its first token and its bytes of text.
        n_bytes: The bytes of text in all.
        mask: For each token 1 if it counts: a model is trained to predict it, and measured by it.
            None where all do.
    """

    path: Path
    tokens: UInt16[np.ndarray, " n_tokens"] | UInt32[np.ndarray, " n_tokens"]
    documents: UInt64[np.ndarray, "n_documents 2"]
    n_bytes: int
    mask: UInt8[np.ndarray, " n_tokens"] | None = None

    @property
    def n_tokens(self) -> int:
        """How many tokens there are, one `end_of_text` a document included."""
        return len(self.tokens)

    @property
    def n_documents(self) -> int:
        """How many documents there are."""
        return len(self.documents)

    def document(self, index: int) -> UInt16[np.ndarray, " n"] | UInt32[np.ndarray, " n"]:
        """Return the tokens of one document, without the `end_of_text` that follows it.

        Raises:
            IndexError: If there is no such document.
        """
        if not 0 <= index < self.n_documents:
            raise IndexError(
                f"`index` must lie in 0 … {self.n_documents - 1}, the documents of "
                f"{str(self.path)!r}, got {index}"
            )
        is_last = index == self.n_documents - 1
        end = self.n_tokens if is_last else int(self.documents[index + 1, 0])
        return self.tokens[int(self.documents[index, 0]) : end - 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenStore:
    """A folder of tokens, opened and checked; `TokenStore.open` makes one.

    Attributes:
        path: The folder.
        tokenizer: The tokenizer that made the tokens, read from the folder.
        train: What is trained on.
        valid: What is held out; it may be empty.
        manifest: What `store.json` says.
    """

    path: Path
    tokenizer: Tokenizer
    train: Split
    valid: Split
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> "TokenStore":
        """Return the store in a folder, its description checked against its files.

        Sizes, the tokenizer and the ends of the document tables are checked; `verify` reads
        every byte.

        Raises:
            DataError: If there is no store, or its files are not what `store.json` says.
            TokenizerError: If the tokenizer's file cannot be read.
        """
        path = Path(path)
        manifest = read_manifest(path)
        tokenizer = load_tokenizer("bytes" if manifest.tokenizer == "bytes" else path)
        store = cls(
            path=path,
            tokenizer=tokenizer,
            train=_open_split(path / "train.bin", manifest.splits.train, manifest.dtype),
            valid=_open_split(path / "valid.bin", manifest.splits.valid, manifest.dtype),
            manifest=manifest,
        )
        store.require_tokenizer(tokenizer)
        return store

    @property
    def sha256(self) -> str:
        """A hash of the tokens, the documents and the tokenizer, wherever they came from."""
        entries = {
            key: value for key, value in manifest_entries(self.manifest).items() if key != "sources"
        }
        return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """How many ids the tokenizer has."""
        return self.manifest.vocab_size

    @property
    def end_of_text(self) -> int:
        """The token after every document."""
        return self.manifest.end_of_text

    @property
    def sources(self) -> list[Source]:
        """Where the text came from."""
        return self.manifest.sources

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that the tokens are of this tokenizer.

        Raises:
            DataError: If they are of another.
        """
        manifest = self.manifest
        expected = (
            manifest.tokenizer,
            manifest.tokenizer_sha256,
            manifest.vocab_size,
            manifest.end_of_text,
        )
        found = (tokenizer.name, tokenizer.sha256, tokenizer.vocab_size, tokenizer.end_of_text)
        if found != expected:
            raise DataError(
                f"the tokens of {str(self.path)!r} are of the tokenizer {_description(*expected)}, "
                f"not of {_description(*found)}; use the tokenizer of the store, or prepare the "
                "text again with the other"
            )

    def verify(self, progress: Progress | None = None) -> None:
        """Read every byte and compare it with the hashes of `store.json`.

        Args:
            progress: Called now and then with the bytes read and the bytes in all.

        Raises:
            DataError: If a block of a file is damaged, naming file and blocks.
        """
        files = [
            (path, hashes)
            for split, of in (
                (self.train, self.manifest.splits.train),
                (self.valid, self.manifest.splits.valid),
            )
            for path, hashes in (
                (split.path, of.sha256),
                (split.path.with_suffix(".docs"), of.documents_sha256),
                *([] if of.mask is None else [(split.path.with_suffix(".mask"), of.mask.sha256)]),
            )
        ]
        total = sum(path.stat().st_size for path, _ in files)
        done = 0
        for path, expected in files:
            hashes = BlockHashes()
            with path.open("rb") as file:
                while data := file.read(READ_BYTES):
                    hashes.update(memoryview(data))
                    done += len(data)
                    if progress is not None:
                        progress(done, total)
            _check_blocks(path, expected, hashes.hexdigests())


def _description(name: str, sha256: str, vocab_size: int, end_of_text: int) -> str:
    return f"{name!r} (sha256 {sha256[:16]}…, vocab_size={vocab_size}, end_of_text={end_of_text})"


def _open_split(path: Path, manifest: SplitManifest, dtype: str) -> Split:
    """Map the two files of a split, after a look at their sizes."""
    tokens = _map(path, manifest.tokens, np.dtype(dtype).newbyteorder("<"), "tokens")
    pairs = _map(path.with_suffix(".docs"), 2 * manifest.documents, np.dtype("<u8"), "documents")
    documents = pairs.reshape(-1, 2)
    first, last = (int(documents[0, 0]), int(documents[-1, 0])) if len(documents) else (0, -1)
    if first != 0 or last >= manifest.tokens:
        raise DataError(
            f"{str(path.with_suffix('.docs'))!r} must point into the {manifest.tokens} tokens of "
            f"{path.name}, the first document at 0, but goes from {first} to {last}; prepare the "
            "store again"
        )
    mask = None
    if manifest.mask is not None:
        mask = _map(path.with_suffix(".mask"), manifest.tokens, np.dtype("u1"), "tokens")
    return Split(path=path, tokens=tokens, documents=documents, n_bytes=manifest.bytes, mask=mask)


def _map(path: Path, n_numbers: int, dtype: np.dtype, kind: str) -> np.ndarray:
    """Map a file of numbers, which must have the size that its description says."""
    expected = n_numbers * dtype.itemsize
    if not path.is_file():
        raise DataError(f"{str(path)!r} is missing; restore it, or prepare the store again")
    found = path.stat().st_size
    if found != expected:
        raise DataError(
            f"{str(path)!r} must have {expected} bytes for the {kind} that store.json counts, "
            f"but has {found}; restore it, or prepare the store again"
        )
    if n_numbers == 0:
        # An empty file cannot be mapped.
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")


def _check_blocks(path: Path, expected: list[str], found: list[str]) -> None:
    """Compare the hashes of a file's blocks."""
    if len(expected) != len(found):
        raise DataError(
            f"{str(path)!r} has {len(found)} blocks of 64 MiB, but store.json has "
            f"{len(expected)} hashes for it; prepare the store again"
        )
    damaged = [i for i, pair in enumerate(zip(expected, found, strict=True)) if len(set(pair)) > 1]
    if damaged:
        block = damaged[0]
        last = min((block + 1) * BLOCK_BYTES, path.stat().st_size) - 1
        raise DataError(
            f"{str(path)!r} is damaged in block {', '.join(map(str, damaged))} of {len(found)} "
            f"(block {block} is bytes {block * BLOCK_BYTES} to {last}): "
            f"its sha256 must be {expected[block]}, got {found[block]}; restore the file, or "
            "prepare the store again"
        )

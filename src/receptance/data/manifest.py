"""What `store.json` says of a token store."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from receptance.errors import DataError
from receptance.tokenizer import Tokenizer

FORMAT = "receptance-tokens"
FORMAT_VERSION = 1
FILE_NAME = "store.json"

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file or folder that was given to be prepared, and what was found in it.

    Attributes:
        path: As it was given.
        held_out: Whether it was given as held-out text.
        files: How many files were read.
        documents: How many documents they hold, blank ones not counted.
        bytes: How many bytes of UTF-8 these documents have.
        blank_documents: How many documents were skipped, being empty or only white space.
        undecodable_files: How many files were skipped, not being UTF-8 text.
    """

    path: str
    held_out: bool
    files: Count
    documents: Count
    bytes: Count
    blank_documents: Count
    undecodable_files: Count


@dataclass(frozen=True, kw_only=True)
class MaskManifest:
    """Which tokens of a split count: a model is trained to predict them, and measured by them.

    Attributes:
        tokens: How many tokens count.
        bytes: How many bytes of UTF-8 text they stand for.
        sha256: The SHA-256 of each 64 MiB of the `.mask` file.
    """

    tokens: Count
    bytes: Count
    sha256: list[str]


@dataclass(frozen=True, kw_only=True)
class SplitManifest:
    """The sizes and the hashes of one split.

    Attributes:
        tokens: How many tokens the `.bin` file holds, one `end_of_text` a document included.
        bytes: How many bytes of UTF-8 text they stand for.
        documents: How many documents there are.
        sha256: The SHA-256 of each 64 MiB of the `.bin` file.
        documents_sha256: The same of the `.docs` file.
        mask: Of the `.mask` file; None where there is none, and every token counts.
    """

    tokens: Count
    bytes: Count
    documents: Count
    sha256: list[str]
    documents_sha256: list[str]
    mask: MaskManifest | None = None


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The two splits of every store."""

    train: SplitManifest
    valid: SplitManifest


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `store.json`.

    Attributes:
        format: Says what the folder is.
        format_version: Raised when a reader of the old version would read it wrongly.
        dtype: How a token is stored, little-endian.
        vocab_size: Tokens are 0 … vocab_size-1.
        tokenizer: The tokenizer's name.
        tokenizer_sha256: The hash of what defines it.
        end_of_text: The token after every document.
        splits: The two splits.
        sources: Where the text came from.
    """

    format: Literal["receptance-tokens"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    dtype: Literal["uint16", "uint32"]
    vocab_size: Annotated[int, Field(ge=1)]
    tokenizer: str
    tokenizer_sha256: str
    end_of_text: Count
    splits: Splits
    sources: list[Source]


_ADAPTER = TypeAdapter(Manifest)


def token_dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    """Return the narrowest dtype of a store that holds all ids of a vocabulary."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def manifest_of(tokenizer: Tokenizer, splits: Splits, sources: list[Source]) -> Manifest:
    """Return the manifest of a store that holds tokens of `tokenizer`."""
    return Manifest(
        dtype=token_dtype(tokenizer.vocab_size),
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.sha256,
        end_of_text=tokenizer.end_of_text,
        splits=splits,
        sources=sources,
    )


def manifest_entries(manifest: Manifest) -> dict[str, Any]:
    """Return what stands in `store.json`: a key only for what there is."""

    def present(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in items if value is not None}

    return asdict(manifest, dict_factory=present)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `store.json` into a folder."""
    (folder / FILE_NAME).write_text(
        json.dumps(manifest_entries(manifest), indent=2) + "\n", "utf-8"
    )


def read_manifest(folder: Path) -> Manifest:
    """Return what the `store.json` of a folder says.

    Raises:
        DataError: If there is none, or it lacks a key, has a wrong value, or is of another format
            or version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        reason, out = "the folder does not exist", str(folder)
        if folder.exists():
            out = "ANOTHER"
            reason = f"the folder has no {FILE_NAME}" if folder.is_dir() else "it is a file"
        raise DataError(
            f"no token store at {str(folder)!r}: {reason}; make one with: "
            f"receptance data prepare FILES --tokenizer bytes --out {out}"
        )
    content = path.read_bytes()
    _check_version(content, path)
    try:
        return _ADAPTER.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        is_missing = first["type"] == "missing"
        what = "is missing" if is_missing else f"is {first['input']!r:.60}: {first['msg']}"
        raise DataError(f"{str(path)!r}: key `{key}` {what}; prepare the store again") from None


def _check_version(content: bytes, path: Path) -> None:
    """Refuse what is not a store's description, or one of another version."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{str(path)!r} must be JSON, but is not ({error}); prepare the store again"
        ) from None
    found = parsed.get("format") if isinstance(parsed, dict) else None
    if found != FORMAT:
        raise DataError(f"{str(path)!r}: key `format` must be {FORMAT!r}, got {found!r}")
    version = parsed.get("format_version")
    if version != FORMAT_VERSION:
        raise DataError(
            f"{str(path)!r}: key `format_version` must be {FORMAT_VERSION}, got {version!r}; "
            "this version of receptance reads no other: prepare the store again, or upgrade"
        )

"""Which tokenizer belongs to a checkpoint: the one beside its weights, and what to do without."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from receptance.checkpoint.formats.native import check_vocabulary
from receptance.checkpoint.hub.names import HubName
from receptance.checkpoint.stored import StoredModel
from receptance.errors import CheckpointError, TokenizerError
from receptance.tokenizer import BytesTokenizer, Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "20B_tokenizer.json", "rwkv_vocab_v20230424.txt")
"""The tokenizer files that may lie beside weights, under their authors' names."""

HUB = "hub"
"""The detail of a stored model that came from the hub: its repository and commit."""


@dataclass(frozen=True)
class _Published:
    """The tokenizer of the authors' models of one vocabulary size."""

    file: str
    source: str
    """Where a person finds it."""
    repository: str
    """Whose copy of it on the hub is taken for a repository that has none."""
    repository_file: str
    sha256: str | None
    """Of the tokenizer; None where the copy is written anew, with other bytes and the same ids."""


_CHATRWKV = "https://github.com/BlinkDL/ChatRWKV/blob/main"
_PUBLISHED = {
    50277: _Published(
        "20B_tokenizer.json",
        f"{_CHATRWKV}/20B_tokenizer.json",
        "RWKV/rwkv-4-169m-pile",
        "tokenizer.json",
        None,
    ),
    65536: _Published(
        "rwkv_vocab_v20230424.txt",
        f"{_CHATRWKV}/tokenizer/rwkv_vocab_v20230424.txt, and in the PyPI package `rwkv`",
        "RWKV/v5-Eagle-7B-HF",
        "rwkv_vocab_v20230424.txt",
        "370282a470f41763f57daded46cfdeec7dbf1db953689f7946aaf7b0df7f387a",
    ),
}


def find_tokenizer(
    stored: StoredModel, tokenizer: Tokenizer | str | Path | None
) -> Tokenizer | None:
    """Return the tokenizer that was given, or else the one that belongs to the weights.

    Without a file beside the weights it is bytes, where the vocabulary is theirs, and for a model
    of the hub the tokenizer that the authors' models of its vocabulary have.

    Args:
        stored: The checkpoint.
        tokenizer: A tokenizer, or a source for `load_tokenizer`; None if none was given.

    Returns:
        The tokenizer, or None if there is none that fits.

    Raises:
        CheckpointError: If the tokenizer that was given, or is in a model folder, has more ids than
            the vocabulary.
        TokenizerError: If it cannot be read.
    """
    if tokenizer is not None:
        loaded = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
        check_vocabulary(stored.path, loaded, stored.config)
        return loaded
    folder = stored.path if stored.path.is_dir() else stored.path.parent
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if files:
        found = (
            _native(folder, files, stored) if stored.format == "native" else _beside(files, stored)
        )
    else:
        # Bytes have no file. A vocabulary of another size without a file is a model that was saved
        # without a tokenizer, and reading it as bytes would make nonsense of it in silence.
        by_bytes = BytesTokenizer()
        found = by_bytes if by_bytes.vocab_size == stored.config.vocab_size else None
    return _from_hub(stored) if found is None and HUB in stored.details else found


def lies_in(folder: Path, tokenizer: Tokenizer) -> bool:
    """Return whether a folder holds the file of this tokenizer; bytes need none."""
    if tokenizer.name == "bytes":
        return True
    for file in (folder / name for name in TOKENIZER_FILES):
        with suppress(TokenizerError, OSError):
            if file.is_file() and load_tokenizer(file).sha256 == tokenizer.sha256:
                return True
    return False


def missing_tokenizer(path: Path | None, vocab_size: int) -> str:
    """Return the message for a text and a model without a tokenizer: which to add, and where to."""
    folder = path if path is None or path.is_dir() else path.parent
    message = f"text needs a tokenizer, but the model at {str(path)!r} came without one; "
    published = _PUBLISHED.get(vocab_size)
    if published is None:
        return message + (
            "pass it as `tokenizer` (to a command as --tokenizer): 'bytes', or the path of a "
            f"tokenizer.json or of a World vocabulary, with at most its {vocab_size} ids"
        )
    return message + (
        f"by its {vocab_size} ids it is {published.file} (from {published.source}): put that into "
        f"{str(folder)!r}, or pass its path as `tokenizer` (to a command as --tokenizer PATH)"
    )


def _native(folder: Path, files: Sequence[Path], stored: StoredModel) -> Tokenizer:
    """Return the tokenizer of a model folder, which was written with it."""
    tokenizer = load_tokenizer(files[0] if len(files) == 1 else folder)
    check_vocabulary(folder, tokenizer, stored.config)
    return tokenizer


def _beside(files: Sequence[Path], stored: StoredModel) -> Tokenizer | None:
    """Return the largest of the tokenizers beside foreign weights that their vocabulary holds."""
    found: list[Tokenizer] = []
    errors: list[TokenizerError] = []
    for file in files:
        try:
            found.append(load_tokenizer(file))
        except TokenizerError as error:
            errors.append(error)
    is_inside = stored.path.is_dir()  # and so was written for this model
    size = stored.config.vocab_size
    fitting = [
        each for each in found if _fits(each, size) or (is_inside and each.vocab_size <= size)
    ]
    if errors and not fitting:
        raise errors[0]
    for error in errors:
        logger.warning("a tokenizer beside %r is passed over: %s", str(stored.path), error)
    return max(fitting, key=lambda each: each.vocab_size, default=None)


def _fits(tokenizer: Tokenizer, vocab_size: int) -> bool:
    """Return whether the ids of a tokenizer can be those of a model that came without one."""
    if vocab_size in _PUBLISHED:
        # A smaller tokenizer would be read without an error, and mean other texts by its ids.
        return tokenizer.vocab_size == vocab_size
    return tokenizer.vocab_size <= vocab_size


def _from_hub(stored: StoredModel) -> Tokenizer | None:
    """Return the tokenizer that published models of this vocabulary have, fetched from the hub."""
    published = _PUBLISHED.get(stored.config.vocab_size)
    if published is None:
        return None
    from receptance.checkpoint.hub import download  # noqa: PLC0415 - see decision 0024

    name = HubName(published.repository, file=published.repository_file)
    try:
        tokenizer = load_tokenizer(download.fetch(name, ()).path)
    except (CheckpointError, TokenizerError) as error:
        # The model can be used without, for tokens; whoever gives it text is told what to add.
        logger.warning("no tokenizer: %s", error)
        return None
    is_known = published.sha256 in (None, tokenizer.sha256)
    if not is_known or not _fits(tokenizer, stored.config.vocab_size):
        logger.warning("no tokenizer: %s is not %s", name, published.file)
        return None
    return tokenizer

"""The right tokenizer for a name, a file or a folder."""

from difflib import get_close_matches
from pathlib import Path

from receptance.errors import TokenizerError
from receptance.tokenizer.bpe import TOKENIZER_FILE, BPETokenizer
from receptance.tokenizer.byte import BytesTokenizer
from receptance.tokenizer.protocol import Tokenizer
from receptance.tokenizer.world import VOCABULARY_FILE, WorldTokenizer

_SUFFIXES = (".json", ".txt")
_LISTED = 10


def load_tokenizer(source: str | Path) -> Tokenizer:
    """Return the tokenizer that a name, a file or a folder stands for.

    Args:
        source: "bytes"; a `tokenizer.json`, under any name that ends in .json; a World vocabulary,
            under any name that ends in .txt; or a folder with `tokenizer.json` or
            `rwkv_vocab_v20230424.txt` in it. Bytes have no file, so no folder stands for them.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: If there is no such file or folder, if it is not a tokenizer, or if a folder
            holds neither file or both.
        OSError: If a file cannot be read.
    """
    if source == "bytes":
        return BytesTokenizer()
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise TokenizerError(_nothing_at(path))
    if path.suffix == ".json" and path.is_file():
        return BPETokenizer.load(path)
    if path.suffix == ".txt" and path.is_file():
        return WorldTokenizer.load(path)
    message = (
        f"a tokenizer must be a `tokenizer.json` (.json) or a World vocabulary (.txt), got "
        f"{str(path)!r}; rename it if it is one of these"
    )
    raise TokenizerError(message)


def _from_folder(folder: Path) -> Tokenizer:
    """Return the tokenizer whose file is in `folder`."""
    bpe, world = folder / TOKENIZER_FILE, folder / VOCABULARY_FILE
    if bpe.exists() and world.exists():
        message = (
            f"a folder must hold one tokenizer, but {str(folder)!r} holds {TOKENIZER_FILE!r} and "
            f"{VOCABULARY_FILE!r}; name the file, or remove one"
        )
        raise TokenizerError(message)
    if bpe.exists():
        return BPETokenizer.load(bpe)
    if world.exists():
        return WorldTokenizer.load(world)
    message = (
        f"a tokenizer's folder must hold {TOKENIZER_FILE!r} or {VOCABULARY_FILE!r}, but "
        f"{str(folder)!r} holds neither; name another, or 'bytes' if bytes are its tokens"
    )
    raise TokenizerError(message)


def _nothing_at(path: Path) -> str:
    """Return the message for a path at which there is nothing, with what there is instead."""
    message = f"no tokenizer at {str(path)!r}: "
    folder = path.parent
    if not folder.is_dir():
        return message + f"the folder {str(folder)!r} does not exist"
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if (entry.suffix in _SUFFIXES or entry.is_dir()) and not entry.name.startswith(".")
    )
    nearest = get_close_matches(path.name, ["bytes", *names] if path.name == str(path) else names)
    message += f"there is no such file or folder. Found in {str(folder)!r}: {names[:_LISTED]}"
    if len(names) > _LISTED:
        message += f" and {len(names) - _LISTED} more"
    if not nearest:
        return message + '. It must be "bytes", a file or a folder'
    name = nearest[0] if nearest[0] == "bytes" else str(folder / nearest[0])
    return message + f". Did you mean {name!r}?"

"""A process that tokenizes for another one: texts come in by a pipe, tokens go out by one.

A message is how many items it has, the length of each, and the items: texts in UTF-8, or tokens as
32-bit integers. The process ends when its input does, and so never outlives the other one.
"""

import signal
import sys
from collections.abc import Sequence
from typing import IO, TypeAlias

import numpy as np
from jaxtyping import Integer

from receptance.tokenizer.byte import BytesTokenizer
from receptance.tokenizer.load import load_tokenizer
from receptance.tokenizer.protocol import Tokenizer
from receptance.tokenizer.utf8 import utf8

TokenArray: TypeAlias = Integer[np.ndarray, " _"]
"""The tokens of one text."""

_LENGTH = np.dtype("<u8")
_TOKEN = np.dtype("<i4")


def main(source: str) -> None:
    """Answer every message of texts on the standard input with their tokens.

    Args:
        source: What `load_tokenizer` takes.
    """
    # Where nobody reads any more there is nothing to say.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    tokenizer = load_tokenizer(source)
    # Whatever prints must not be read as tokens.
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    while (message := _asked(sys.stdin.buffer)) is not None:
        texts = [str(item, "utf-8") for item in message]
        write_tokens(answers, token_arrays(tokenizer, texts))


def token_arrays(tokenizer: Tokenizer, texts: Sequence[str]) -> list[TokenArray]:
    """Return the tokens of each text as an array.

    Args:
        tokenizer: Makes them.
        texts: Any texts.

    Raises:
        TokenizerError: If a text holds a lone surrogate.
    """
    if type(tokenizer) is BytesTokenizer:
        return [tokenizer.encode_array(text) for text in texts]
    return [np.array(ids, np.int64) for ids in tokenizer.encode_batch(texts)]


def write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
    """Write one message of texts.

    Args:
        file: Takes it.
        texts: Any texts.

    Raises:
        TokenizerError: If a text holds a lone surrogate; nothing is then written.
    """
    _write(file, [utf8(text) for text in texts])


def write_tokens(file: IO[bytes], arrays: Sequence[TokenArray]) -> None:
    """Write one message of tokens.

    Args:
        file: Takes it.
        arrays: Of tokens.
    """
    _write(file, [array.astype(_TOKEN).tobytes() for array in arrays])


def read_tokens(file: IO[bytes]) -> list[TokenArray] | None:
    """Return the arrays of one message of tokens; None if the file ends instead.

    Args:
        file: Begins with the message.

    Raises:
        EOFError: If the file ends within it.
    """
    message = _read(file)
    return None if message is None else [np.frombuffer(item, _TOKEN) for item in message]


def _write(file: IO[bytes], items: Sequence[bytes]) -> None:
    lengths = np.array([len(items), *map(len, items)], _LENGTH)
    file.write(b"".join([lengths.tobytes(), *items]))
    file.flush()


def _asked(file: IO[bytes]) -> list[memoryview] | None:
    """Return the items of one message; None where the other process was killed, even within it."""
    try:
        return _read(file)
    except EOFError:
        return None


def _read(file: IO[bytes]) -> list[memoryview] | None:
    head = file.read(_LENGTH.itemsize)
    if not head:
        return None
    n_items = int(np.frombuffer(_all(head, _LENGTH.itemsize), _LENGTH)[0])
    n_bytes = n_items * _LENGTH.itemsize
    lengths = np.frombuffer(_all(file.read(n_bytes), n_bytes), _LENGTH)
    n_bytes = int(lengths.sum())
    data = memoryview(_all(file.read(n_bytes), n_bytes))
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _all(data: bytes, n_bytes: int) -> bytes:
    if len(data) < n_bytes:
        raise EOFError(f"a message must have {n_bytes} more bytes, but has {len(data)}")
    return data

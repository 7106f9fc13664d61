"""A BPE vocabulary from texts."""

from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from receptance.tokenizer.bpe import END_OF_TEXT, PATTERN, BPETokenizer
from receptance.tokenizer.pieces import pieces
from receptance.tokenizer.token_table import MAX_TOKEN
from receptance.tokenizer.utf8 import utf8

_LEAST = 257


def train_bpe(texts: Iterable[str], vocab_size: int, *, progress: bool = False) -> BPETokenizer:
    """Return a byte-level BPE tokenizer made from the most frequent pairs of `texts`.

    Token 0 is `<|endoftext|>`, tokens 1 … 256 are the bytes, the rest is learnt; a pair that comes
    only once is not. Nothing is normalised, so every text comes back as it was. The same texts give
    the same tokenizer, whatever their order and the number of threads.

    Args:
        texts: The texts, read once; memory grows with their different words, not their length.
        vocab_size: How many tokens to have, from 257 to 2²⁰. Few texts may give fewer: the
            result's `vocab_size` says how many there are.
        progress: Whether the library draws a progress bar on stderr.

    Returns:
        The tokenizer.

    Raises:
        ValueError: If `vocab_size` is out of its range.
        TokenizerError: If a text holds a lone surrogate.
    """
    if not _LEAST <= vocab_size <= MAX_TOKEN + 1:
        message = (
            f"`vocab_size` must be at least {_LEAST}, the 256 bytes and {END_OF_TEXT!r}, and at "
            f"most {MAX_TOKEN + 1}, got {vocab_size!r}"
        )
        raise ValueError(message)
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=progress,
    )
    library.train_from_iterator(_pieces(texts), trainer)
    return BPETokenizer(library.to_str(pretty=True), source="the trained tokenizer")


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """Yield what the library can count, word by word, without holding a long text twice."""
    for text in texts:
        utf8(text)
        yield from pieces(text)

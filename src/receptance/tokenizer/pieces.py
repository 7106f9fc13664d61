"""Long texts in pieces that a pre-tokenizer would cut as well."""

import re
from collections.abc import Iterable, Iterator

# `tokenizers` takes some 130 bytes of memory for each byte of a text, and one core for each text.
PIECE_CHARACTERS = 1 << 14
GROUP_CHARACTERS = 1 << 21

# Between these letters or digits and these separators, GPT-2's pattern and ours always cut,
# whatever stands before and after, and NFC composes nothing. The scripts are few and old, so that
# no two versions of Unicode disagree on them; a text without them stays in one piece.
_CUT = re.compile(
    "(?<=[A-Za-z0-9\u0400-\u0481\u0621-\u063a\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3])"
    "(?=[ \\n.,，。、])"
)


def pieces(text: str, characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Yield `text` in pieces whose tokens, one after the other, are the tokens of `text`.

    This holds for byte-level BPE with the pre-tokenizer of GPT-2 or of `train_bpe`, with no
    normalizer or NFC, and without added tokens in which a cut could fall.

    Args:
        text: Any text.
        characters: The least length of a piece that another one follows, at least 1.

    Yields:
        At least one piece, which are `text` when joined.
    """
    start = 0
    while len(text) - start > characters:
        cut = _CUT.search(text, start + characters)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:] if start else text


def groups(
    numbered: Iterable[tuple[int, str]], characters: int = GROUP_CHARACTERS
) -> Iterator[list[tuple[int, str]]]:
    """Yield pieces in groups of about `characters` characters, to bound the memory they take.

    Args:
        numbered: Pieces, each with the number of its text.
        characters: The length at which a group ends.

    Yields:
        Non-empty lists of numbered pieces, in order.
    """
    group: list[tuple[int, str]] = []
    length = 0
    for number, piece in numbered:
        group.append((number, piece))
        length += len(piece)
        if length >= characters:
            yield group
            group, length = [], 0
    if group:
        yield group


def can_be_cut_in(text: str) -> bool:
    """Return whether a cut could fall inside `text`.

    Args:
        text: The text of an added token.

    Returns:
        Whether `pieces` may cut it.
    """
    return _CUT.search(text) is not None

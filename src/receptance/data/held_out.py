"""Which documents are held out of training.

A document is held out by a seeded digest of its own text, so the choice depends neither on the
order of the files nor on what else is there, and two copies of a text are on the same side.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from receptance.data.documents import Piece
from receptance.errors import DataError

SplitName = Literal["train", "valid"]

_DIGESTS = 1 << 64

_ONE_RECORD = (
    "the one document must be plain text for its end to be held out, but it is a prompt with its "
    "answer, or a chat; give held-out files with `valid` (--valid), or hold out nothing with "
    "valid_fraction=0 (--valid-fraction 0)"
)


def digest(text: str, seed: int) -> int:
    """Return 64 bits that depend on every character of a text and on the seed."""
    keyed = hashlib.blake2b(text.encode(), digest_size=8, key=str(seed).encode()[:64])
    return int.from_bytes(keyed.digest(), "little")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A rule that gives every document a split.

    Attributes:
        seed: What the digests depend on.
        below: A document whose first piece has a digest below this is held out.
        tail_begins: If not None, there is one document, held out from about this byte on; what
            is cut off begins a line if one begins near.
        tail_reach: How many bytes further on that line may begin.
    """

    seed: int = 0
    below: int = 0
    tail_begins: int | None = None
    tail_reach: int = 0

    def assign(self, pieces: Iterable[Piece]) -> Iterator[tuple[SplitName, Piece]]:
        """Yield every piece of a file with the split that its document belongs to."""
        if self.tail_begins is not None:
            yield from self._cut_tail(pieces, self.tail_begins)
            return
        split: SplitName = "train"
        for piece in pieces:
            if piece.begins:
                split = "valid" if self._holds_out(piece.document_key) else "train"
            yield split, piece

    def _holds_out(self, text: str) -> bool:
        return self.below > 0 and digest(text, self.seed) < self.below

    def _cut_tail(
        self, pieces: Iterable[Piece], tail_begins: int
    ) -> Iterator[tuple[SplitName, Piece]]:
        """Yield the one document as two: all but its tail, and its tail."""
        n_before = 0
        for piece in pieces:
            if piece.identity:
                raise DataError(_ONE_RECORD)
            data = piece.text.encode()
            cut = tail_begins - n_before
            n_before += len(data)
            if cut >= len(data):
                yield "train", piece
            elif cut < 0:
                yield "valid", piece
            else:
                head, tail = _cut_at_line(data, cut, self.tail_reach)
                yield "train", Piece(head, piece.begins, ends=True)
                yield "valid", Piece(tail, begins=True, ends=piece.ends)


def _cut_at_line(data: bytes, cut: int, reach: int) -> tuple[str, str]:
    """Cut UTF-8 text where a line begins, or where a character does if no line begins near."""
    newline = data.find(b"\n", cut, cut + reach)
    if 0 <= newline < len(data) - 1:
        cut = newline + 1
    # Bytes 10xxxxxx continue a character.
    while data[cut] & 0xC0 == 0x80:
        cut -= 1
    return data[:cut].decode(), data[cut:].decode()


def hold_out(
    *,
    fraction: float,
    seed: int,
    n_documents: int,
    n_bytes: int,
    smallest_digest: int,
    largest_digest: int,
) -> HeldOut:
    """Return the rule that holds out about `fraction` of the documents.

    From two documents on, at least one is held out and at least one is not. Of a single document
    the last `fraction` of its bytes is held out.

    Args:
        fraction: The share to hold out, from 0 to less than 1; 0 holds out nothing.
        seed: What the choice depends on, besides the texts.
        n_documents: How many documents there are, at least one.
        n_bytes: How many bytes of UTF-8 they have.
        smallest_digest: The smallest digest among them.
        largest_digest: The largest.

    Raises:
        DataError: If nothing can be held out: the documents are all the same, or one document is
            too short to be cut.
    """
    if fraction == 0:
        return HeldOut(seed=seed)
    if n_documents == 1:
        return _hold_out_tail(fraction, seed, n_bytes)
    if smallest_digest == largest_digest:
        raise DataError(
            f"the {n_documents} documents are all the same text, so none can be held out; give "
            "held-out files with `valid` (--valid), or hold out nothing with valid_fraction=0 "
            "(--valid-fraction 0)"
        )
    below = max(int(fraction * _DIGESTS), smallest_digest + 1)
    return HeldOut(seed=seed, below=min(below, largest_digest))


def _hold_out_tail(fraction: float, seed: int, n_bytes: int) -> HeldOut:
    # Four bytes make at least one character; eight, one for each side.
    if n_bytes < 8:
        raise DataError(
            f"the one document has {n_bytes} bytes, too few to hold out its end; give held-out "
            "files with `valid` (--valid), or hold out nothing with valid_fraction=0 "
            "(--valid-fraction 0)"
        )
    n_tail = min(max(round(n_bytes * fraction), 4), n_bytes - 4)
    return HeldOut(seed=seed, tail_begins=n_bytes - n_tail, tail_reach=n_tail // 2)

r"""How many words a document has, and where in it they are.

Words are counted as by the task `wikitext` of lm-eval, `len(re.split(r"\s+", document))`: the runs
of characters between white space, and one more where the document begins, or ends, with white
space.
"""

from array import array

import numpy as np
from jaxtyping import Integer

_SPACES = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)


class WordCounter:
    """Counts the words of a document that comes piece by piece, in blocks of its bytes.

    The first word is counted at the document's beginning, each other one where the white space
    before it begins.
    """

    def __init__(self, block_bytes: int) -> None:
        """Begin a document.

        Args:
            block_bytes: How many bytes of UTF-8 a block has.
        """
        self._block_bytes = block_bytes
        self._counts = array("I", [1])
        self._n_bytes = 0
        self._ends_with_space = False

    def add(self, text: str) -> None:
        """Go on with the document's next piece, which may be empty."""
        if not text:
            return
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        is_space = np.isin(codes, _SPACES)
        begins = is_space & ~np.concatenate([[self._ends_with_space], is_space[:-1]])
        # UTF-8 needs a byte more from each of these on.
        widths = 1 + sum((codes >= first).astype(np.int64) for first in (0x80, 0x800, 0x10000))
        ends = self._n_bytes + np.cumsum(widths)
        places = (ends - widths)[begins]
        self._n_bytes = int(ends[-1])
        self._ends_with_space = bool(is_space[-1])
        self._extend(self._n_bytes)
        blocks, counts = np.unique(places // self._block_bytes, return_counts=True)
        for block, count in zip(blocks.tolist(), counts.tolist(), strict=True):
            self._counts[block] += count

    def counts(self, n_bytes: int) -> Integer[np.ndarray, " blocks"]:
        """Return how many words there are in each block of the document; at least one block.

        Args:
            n_bytes: How many bytes it has: those of its text, and of a character that was cut.
        """
        self._extend(n_bytes)
        return np.array(self._counts, dtype=np.uint32)

    def _extend(self, n_bytes: int) -> None:
        n_blocks = -(-n_bytes // self._block_bytes)
        self._counts.extend([0] * (n_blocks - len(self._counts)))

"""Texts that end a generation, found across the borders of tokens and never let out."""

from collections.abc import Sequence


class StopScanner:
    """Passes text on as it arrives, and ends where a stop string is complete.

    The stop string that is complete first decides; of several that end at the same character, the
    longest. The text before it is passed on, it and all behind it never. Text that may yet become
    a stop string is held back. How the text is cut into pieces makes no difference.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Begin an empty text.

        Args:
            stops: The stop strings, none of them empty.
        """
        self._stops = tuple(stops)
        self._held = ""
        self._found: str | None = None

    @property
    def held(self) -> str:
        """What has arrived and is held back."""
        return self._held

    @property
    def found(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._found

    def push(self, text: str) -> str:
        """Return what can be passed on now that `text` has arrived; nothing after the end.

        Args:
            text: The next piece.
        """
        if self._found is not None:
            return ""
        text = self._held + text
        # The first occurrence of a stop string is also the one that ends first.
        starts = {stop: text.find(stop) for stop in self._stops}
        ends = [(start + len(stop), start, stop) for stop, start in starts.items() if start >= 0]
        if ends:
            _, start, self._found = min(ends)
            self._held = ""
            return text[:start]
        border = len(text) - self._n_undecided(text)
        self._held = text[border:]
        return text[:border]

    def flush(self) -> str:
        """Return what is held back: no more text comes, so it is no stop string."""
        rest, self._held = self._held, ""
        return rest

    def _n_undecided(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for n in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-n:]) for stop in self._stops):
                return n
        return 0

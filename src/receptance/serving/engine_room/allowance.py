"""How many tokens a key may read and write: so many a minute, which come back as time passes."""

from dataclasses import dataclass

from receptance.errors import RequestError

_MINUTE = 60.0


@dataclass
class _Account:
    """What one key took, less what has come back since."""

    taken: float
    at: float


class Allowance:
    """Lets each key take a minute's tokens at once, and then as many as come back.

    A prompt is paid for when it is taken, and what was written when it ends. So a key may owe
    some; it then gets nothing until that is paid.
    """

    def __init__(self, tokens_per_minute: int) -> None:
        """Begin with nothing taken.

        Args:
            tokens_per_minute: Of each key; 0 is any number.
        """
        self._most = tokens_per_minute
        self._accounts: dict[str, _Account] = {}

    def require(self, owner: str, now: float) -> None:
        """Refuse a key that has taken all that it may.

        Args:
            owner: The key.
            now: Seconds by any clock that goes on evenly, as for `take`.

        Raises:
            RequestError: 429, with the time until something is left.
        """
        if not self._most:
            return
        owed = self._taken(owner, now) - self._most
        if owed >= 0:
            seconds = (owed + 1) / self._most * _MINUTE
            raise RequestError(
                f"this key may read and write {self._most} tokens a minute, and did; ask again "
                f"in {seconds:.0f} seconds",
                status=429,
                code="rate_limit",
                retry_after=seconds,
            )

    def take(self, owner: str, n_tokens: int, now: float) -> None:
        """Note tokens that a key has read or written."""
        if self._most and n_tokens:
            self._accounts[owner] = _Account(self._taken(owner, now) + n_tokens, now)

    def _taken(self, owner: str, now: float) -> float:
        account = self._accounts.get(owner)
        if account is None:
            return 0.0
        left = account.taken - (now - account.at) * self._most / _MINUTE
        if left <= 0:
            del self._accounts[owner]
        return max(0.0, left)

"""Makes an engine, and another one when it broke: so often in an hour, and then never again."""

import logging
import time
from collections import deque
from collections.abc import Callable

from receptance.inference import Engine
from receptance.serving.engine_room.failures import whence

logger = logging.getLogger(__name__)

_HOUR = 3600.0
_REMAKE_SECONDS = 5.0  # what kept an engine from being made may have gone by then


class EngineMaker:
    """Holds the engine, if there is one; it belongs to the engine's thread."""

    def __init__(self, make_engine: Callable[[], Engine], restarts_per_hour: int) -> None:
        """Make the first engine.

        Args:
            make_engine: Makes one.
            restarts_per_hour: How many more of them there may be.
        """
        self._make_engine = make_engine
        self._restarts_per_hour = restarts_per_hour
        self._restarts: deque[float] = deque()
        self._remake_at: float | None = None
        self.engine: Engine | None = make_engine()
        """None while there is none."""
        self.is_given_up = False
        """Whether there never will be one again."""

    def seconds_to_remake(self) -> float | None:
        """Return in how many seconds an engine is to be made; None if none is."""
        at = self._remake_at
        return None if at is None else max(0.0, at - time.monotonic())

    def discard(self) -> None:
        """Let go of an engine that broke: its memory goes before the next one takes it."""
        self.engine = None

    def remake(self) -> None:
        """Make an engine, or say when to try again; or never, if that was often enough."""
        self._remake_at = None
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] > _HOUR:
            self._restarts.popleft()
        if len(self._restarts) >= self._restarts_per_hour:
            self.is_given_up = True
            logger.error("the engine broke too often in an hour, and stays down")
            return
        self._restarts.append(now)
        try:
            self.engine = self._make_engine()
        except Exception as again:  # noqa: BLE001 - then there is none for now, which is told
            self._remake_at = time.monotonic() + _REMAKE_SECONDS
            logger.error("the engine can not be made again: %s", whence(again))  # noqa: TRY400

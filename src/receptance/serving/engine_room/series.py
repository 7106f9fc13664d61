"""Many jobs of one request, a few of them at once: one admission, and all of them or none."""

from collections import deque
from dataclasses import dataclass, field

from receptance.inference import Request
from receptance.serving.engine_room.job import Job
from receptance.serving.engine_room.ticket import Ticket


@dataclass(eq=False)
class Series:
    """Jobs that follow each other into the places of the first of them."""

    arrived: float
    """When the request came; its deadline is that of all."""
    waiting: deque[tuple[Ticket, Job, Request]] = field(default_factory=deque)
    """What has no place yet."""

    def next(self, ended: Ticket) -> tuple[Ticket, Job, Request] | None:
        """Return what goes into the place of a job that ended; if that failed, nothing will.

        Args:
            ended: Its ticket; if it failed, all that wait fail with its error.
        """
        if ended.error is None:
            return self.waiting.popleft() if self.waiting else None
        while self.waiting:
            self.waiting.popleft()[0].fail(ended.error)
        return None

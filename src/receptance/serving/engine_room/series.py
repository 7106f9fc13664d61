"""Many jobs of one request, a few of them at once: one admission, and all of them or none."""

from collections import deque
from dataclasses import dataclass, field

from receptance.inference import Request
from receptance.serving.engine_room.job import Job
from receptance.serving.engine_room.ticket import Ticket, cancelled


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
        while self.waiting:
            follower = self.waiting.popleft()
            ticket = follower[0]
            # The engine has not heard of those that wait, and so forgets none that is cancelled.
            if ended.error is None and not ticket.is_cancelled:
                return follower
            ticket.fail(cancelled() if ended.error is None else ended.error)
        return None

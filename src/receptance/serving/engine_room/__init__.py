"""The engine on a thread of its own, behind asyncio."""

from receptance.inference import PromptRead, TokenLogprobs
from receptance.serving.engine_room.deadlines import first_deadline
from receptance.serving.engine_room.job import Finished, Job, Piece
from receptance.serving.engine_room.room import EngineRoom
from receptance.serving.engine_room.ticket import Ticket

__all__ = [
    "EngineRoom",
    "Finished",
    "Job",
    "Piece",
    "PromptRead",
    "Ticket",
    "TokenLogprobs",
    "first_deadline",
]

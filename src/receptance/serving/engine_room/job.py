"""What the engine room is asked for, and what it hands out."""

from dataclasses import dataclass

from receptance.inference import Generation, Request, TokenLogprobs


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request to the engine, and for whom it is."""

    request: Request
    owner: str
    """The key that asks, by its name; places in the queue are counted by it."""
    n: int = 1
    """How many texts go on from the prompt."""
    max_seconds: float | None = None
    """From its arrival to its end, if less than the settings give everyone."""
    param: str = "prompt"
    """The field that the prompt stood in: what is wrong with it is told by this name."""
    arrived: float | None = None
    """When it arrived, by `time.monotonic`, which is the event loop's clock; None is now."""


@dataclass(frozen=True)
class Finished:
    """One text of a job, whole."""

    index: int
    """Which of the job's `n` it is."""
    generation: Generation
    at: float
    """When its last token was chosen, by `time.monotonic`."""
    tokens: tuple[TokenLogprobs, ...]
    """Of each token that was chosen, those of a stop string and the end of the text included; none
    if nobody asked."""


@dataclass(frozen=True)
class Piece:
    """What came of one text since the piece before."""

    index: int
    """Which of the job's `n` it is."""
    text: str
    """Whole characters; may be empty."""
    tokens: tuple[TokenLogprobs, ...]
    """Of the tokens that were chosen meanwhile; none if nobody asked."""
    finished: Finished | None
    """The whole, if this is its last piece."""

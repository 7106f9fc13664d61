"""What an engine is asked for, and what it answers step by step."""

from dataclasses import dataclass, field

from receptance.inference.generation import Generation
from receptance.inference.loaded_adapter import LoadedAdapter
from receptance.inference.prompt import Prompt
from receptance.inference.sampling import SamplingParams
from receptance.models import State


@dataclass(frozen=True)
class Request:
    """A text to be written: the arguments of `LanguageModel.generate`, as a value."""

    prompt: Prompt
    """A text or tokens. If empty, and without a state, the model begins a new text."""
    params: SamplingParams = field(default_factory=SamplingParams)
    """How to choose tokens, and when to end."""
    state: State | None = None
    """What came before; None is the start of the model: with an adapter, the zero state. Not
    modified."""
    adapter: LoadedAdapter | None = None
    """What is added to the engine's weights for this text, as `LanguageModel.with_adapter` does;
    None is the engine's model as it is."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one step did for one request."""

    id: int
    """The one that `Engine.add` gave."""
    token: int | None = None
    """The token that was chosen; None if the request failed before."""
    text: str = ""
    """What can be passed on now; of all outputs of a request, joined, it is the whole text."""
    generation: Generation | None = None
    """The whole, if the request is finished by this step."""
    error: Exception | None = None
    """What went wrong, if the request failed in this step: it ends, and no other is touched."""

    @property
    def is_last(self) -> bool:
        """Whether the request is over, and this is its last output."""
        return self.generation is not None or self.error is not None

"""What an engine is asked for, and what it answers step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float32
from torch import Tensor

from receptance.inference.constraint import Constraint
from receptance.inference.generation import Generation
from receptance.inference.loaded_adapter import LoadedAdapter
from receptance.inference.logprobs import TokenLogprobs
from receptance.inference.prompt import Prompt
from receptance.inference.sampling import SamplingParams
from receptance.models import State


@dataclass(frozen=True)
class Request:
    """A text to be written: the arguments of `LanguageModel.generate`, as a value.

    Raises:
        ValueError: If one of the numbers is below 0.
    """

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
    constraint: Callable[[], Constraint] | None = field(default=None, kw_only=True)
    """Makes the rule that a text keeps; every text of a family gets its own. It is called when the
    request is added."""
    logprobs: int | None = field(default=None, kw_only=True)
    """How many of the likeliest tokens are told beside each one that is generated; None tells no
    logprobs."""
    prompt_logprobs: int | None = field(default=None, kw_only=True)
    """The same for the tokens of the prompt, which is then read as a whole."""
    wants_features: bool = field(default=False, kw_only=True)
    """Whether `PromptRead.features` is wanted."""
    cache_scope: str | None = field(default=None, kw_only=True)
    """Whose states of prompts may be gone on from, and who may go on from those of this one; None
    is nobody's. Only for prompts that are texts or lists, without a state."""

    def __post_init__(self) -> None:
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"`{name}` must be at least 0, got {value}")


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptRead:
    """What is known of a prompt once it was read."""

    n_tokens: int
    """How many tokens it had."""
    cached_tokens: int = 0
    """How many of these were not read, since the state after them was remembered."""
    logprobs: tuple[TokenLogprobs | None, ...] | None = None
    """Of each of its tokens, if they were asked for. The first has none: nothing predicts it."""
    features: Float32[Tensor, " C"] | None = None
    """What the model's head sees at the last token, if it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one step did for one request."""

    id: int
    """The one that `Engine.add` gave."""
    prompt: PromptRead | None = None
    """What is known of the prompt, in the request's first output, unless reading it failed."""
    token: int | None = None
    """The token that was chosen; None if the request failed before, or wants no token."""
    text: str = ""
    """What can be passed on now; of all outputs of a request, joined, it is the whole text."""
    logprobs: TokenLogprobs | None = None
    """Of `token`, if they were asked for."""
    generation: Generation | None = None
    """The whole, if the request is finished by this step."""
    error: Exception | None = None
    """What went wrong, if the request failed in this step: it ends, and no other is touched."""

    @property
    def is_last(self) -> bool:
        """Whether the request is over, and this is its last output."""
        return self.generation is not None or self.error is not None

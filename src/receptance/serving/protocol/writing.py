"""What a request for a text and one for a chat's answer have in common."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, FiniteFloat

from receptance.errors import RequestError
from receptance.inference import SamplingParams
from receptance.serving.protocol.body import Body, Items
from receptance.serving.protocol.response_format import ResponseFormat
from receptance.serving.settings import Settings

NO_TOOLS = "its models were not trained to call tools: leave it out"
NO_REASONING = "its models do not reason apart from their answer: leave it out"
_NO_STORE = "nothing that is said is kept by it"
_NO_PADDING = "it sends no padding"
_NO_STREAM = "`stream_options` must be left out unless `stream` is true"
ONE_STATE = "`save_state` must be left out of a request for several texts; ask for one"
_ONE_TIER = "there is one tier of service"


_ANY_SEED = -1
_MOST_BIAS = 100
_Biases = dict[str, Annotated[FiniteFloat, Field(ge=-_MOST_BIAS, le=_MOST_BIAS)]]


def _first_wrong(bias: Any) -> Any:
    """Return the first wrong entry of a bias alone: to complain of all of them takes seconds."""
    for name, each in bias.items() if isinstance(bias, dict) else ():
        if type(each) not in (int, float) or not -_MOST_BIAS <= each <= _MOST_BIAS:
            return {name: each}
    return bias


class StreamOptions(Body):
    """What a stream has beside the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Padding against an eavesdropper who counts bytes; only `false` is possible."""


class WritingBody(Body):
    """How tokens are chosen, how many texts there are, and how they are sent."""

    PASSED_OVER: ClassVar[frozenset[str]] = frozenset(
        {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    )

    HARMLESS: ClassVar[Mapping[str, Sequence[Any]]] = {
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (False, True),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "reasoning_effort": ("none",),
    }

    model: str
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | Items[str] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Wins over `max_tokens`, which is its old name."""
    presence_penalty: Annotated[FiniteFloat, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[FiniteFloat, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[_Biases | None, BeforeValidator(_first_wrong)] = None
    seed: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    """-1 is none, as many servers have it: another text each time."""
    response_format: ResponseFormat | None = None
    store: bool | None = None
    service_tier: str | None = None

    # Beyond OpenAI's fields.
    top_k: Annotated[int, Field(ge=0)] | None = None
    """0 keeps all tokens."""
    min_p: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None
    typical_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = None
    penalty_decay: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    """The RWKV authors' `alpha_decay`: how fast the penalties forget."""
    timings: bool | None = None
    """Whether the answer says how long its parts took."""
    state: str | None = None
    """The id of a kept state that the request goes on from."""
    save_state: bool | None = None
    """Whether the state after the answer is kept, and the answer tells its id."""

    @property
    def limit(self) -> tuple[int | None, str]:
        """How many tokens a text may have, and the field that says so."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens, "max_completion_tokens"
        return self.max_tokens, "max_tokens"

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to end with the count of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def require_possible(body: WritingBody, settings: Settings) -> None:
    """Refuse values that are of the right type, and that this server does not do.

    Args:
        body: What was sent.
        settings: The limits.

    Raises:
        RequestError: With the name of the field as `param`.
    """
    if body.store:
        raise _unsupported(param="store", value="true", why=_NO_STORE)
    if body.service_tier not in (None, "auto", "default"):
        raise _unsupported(param="service_tier", value="another than auto", why=_ONE_TIER)
    if body.stream_options is not None:
        if not body.stream:
            raise RequestError(_NO_STREAM, param="stream_options")
        if body.stream_options.include_obfuscation:
            param = "stream_options.include_obfuscation"
            raise _unsupported(param=param, value="true", why=_NO_PADDING)
    if body.save_state and (body.n or 1) > 1:
        raise RequestError(ONE_STATE, param="save_state")
    most = min(settings.max_choices, settings.max_sequences)
    if (body.n or 1) > most:
        raise RequestError(f"`n` must be at most {most} here, but it is {body.n}", param="n")


def require_possible_logprobs(
    n_top: int | None, n_prompt: int, n_written: int, settings: Settings
) -> None:
    """Refuse more logprobs than can be kept until they are told.

    Args:
        n_top: How many likeliest tokens are listed beside each; None is no logprobs.
        n_prompt: Tokens of all prompts that are told, too.
        n_written: Tokens of all texts, at most.
        settings: The limits.

    Raises:
        RequestError: If they are more than the server keeps of one request.
    """
    if n_top is None:
        return
    n = (n_prompt + n_written) * (1 + n_top)
    if n > settings.max_logprobs:
        raise RequestError(
            f"`logprobs` must be at most {settings.max_logprobs} numbers here, of all tokens with "
            f"those listed beside them, but they may be {n}; ask for fewer tokens, texts, or "
            "logprobs of each token",
            param="logprobs",
        )


def sampling_params(
    body: WritingBody,
    settings: Settings,
    *,
    vocab_size: int,
    stops: Sequence[str] = (),
) -> SamplingParams:
    """Return how the engine is to choose tokens, and when to end.

    Args:
        body: What was sent.
        settings: The limits, and the number of tokens if none is asked for.
        vocab_size: How many tokens there are, for `logit_bias`.
        stops: Further texts that end the answer: those of the chat's format.

    Raises:
        RequestError: If a limit is exceeded, or a token of `logit_bias` is none.
    """
    most = settings.max_tokens
    max_tokens, field = body.limit
    if max_tokens is None:
        max_tokens = min(settings.default_max_tokens, most)
    elif max_tokens > most:
        raise RequestError(
            f"`{field}` must be at most {most} here, but it is {max_tokens}", param=field
        )
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=_or(body.temperature, 1.0),
        top_k=body.top_k or 0,
        top_p=_or(body.top_p, 1.0),
        min_p=_or(body.min_p, 0.0),
        typical_p=_or(body.typical_p, 1.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        penalty_decay=_or(body.penalty_decay, 1.0),
        seed=None if body.seed == _ANY_SEED else body.seed,
        stop=tuple(dict.fromkeys([*_stops(body.stop, settings), *stops])),
        logit_bias=_logit_bias(body.logit_bias or {}, vocab_size, settings.max_logit_bias),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def _stops(stop: str | list[str] | None, settings: Settings) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > settings.max_stops:
        raise RequestError(
            f"`stop` must be at most {settings.max_stops} texts here, but it is {len(stops)}",
            param="stop",
        )
    for i, each in enumerate(stops):
        if not 1 <= len(each) <= settings.max_stop_characters:
            param = "stop" if isinstance(stop, str) else f"stop[{i}]"
            raise RequestError(
                f"`{param}` must have from 1 to {settings.max_stop_characters} characters here, "
                f"but it has {len(each)}",
                param=param,
            )
    return stops


def _logit_bias(bias: dict[str, float], vocab_size: int, most: int) -> dict[int, float]:
    if len(bias) > most:
        message = f"`logit_bias` must name at most {most} tokens here, but it names {len(bias)}"
        raise RequestError(message, param="logit_bias")
    tokens: dict[int, float] = {}
    for name, value in bias.items():
        is_number = name.isascii() and name.isdecimal() and len(name) <= 9
        if not is_number or int(name) >= vocab_size:
            raise RequestError(
                f"`logit_bias` must have tokens from 0 to {vocab_size - 1} as its names, but one "
                f"is {name[:20]!r}",
                param="logit_bias",
            )
        tokens[int(name)] = float(value)
    return tokens


def _unsupported(*, param: str, value: str, why: str) -> RequestError:
    return RequestError(
        f"`{param}` must not be {value} at this server: {why}",
        code="unsupported_parameter",
        param=param,
    )

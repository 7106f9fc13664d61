"""What a server is told when it starts; every limit that it keeps is one of these."""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path

_MB = 2**20
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?/?", re.IGNORECASE
)
_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)

LEAST_BYTES_PER_SECOND = 4096
"""What a client must take of a long answer, or it does not count as reading."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server listens, what it takes, and when it says no.

    Raises:
        ValueError: If a limit is out of its range, or a name or origin is none.
    """

    # Where it listens, and for whom.
    host: str = "127.0.0.1"
    """The address; one that others can reach needs a key."""
    port: int = 8000
    """The port; 0 takes a free one."""
    unix_socket: Path | None = None
    """A socket file to listen on in place of an address."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that a request's Host header may have, beside the address and localhost."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other pages that may call; none unless told."""
    any_model_name: bool = False
    """Whether a request may name any model and gets this one."""
    strict_params: bool = True
    """Whether a field that nobody knows is refused; if not, it is passed over."""

    # What it does at once.
    max_sequences: int = 16
    """Texts that are read or written at once; their states are the memory that it takes."""
    max_waiting: int = 64
    """Texts that wait for their turn; the next request is told to come again (429)."""
    max_waiting_per_key: int = 64
    """Of these, texts of one key."""
    tokens_per_minute_per_key: int = 0
    """Tokens that a key may read and write in a minute, then it is refused (429); 0 is any."""
    chunk_tokens: int = 256
    """Tokens of a prompt that are read at once: what one step, and a cancel, may have to wait."""

    # What one request may ask for.
    max_prompt_tokens: int = 2**20
    """Tokens of a prompt."""
    max_messages: int = 4096
    """Messages of a conversation that is sent at once."""
    max_tokens: int = 2**16
    """Tokens that a request may ask for."""
    default_max_tokens: int = 4096
    """Tokens that are written when a request does not say."""
    max_choices: int = 16
    """Texts for one prompt (`n`), and prompts of one request times `n`."""
    max_top_logprobs: int = 20
    """Likeliest tokens that are listed beside each one."""
    max_logprobs: int = 2**20
    """Of all its tokens, with those that are listed: what has to be kept until the answer ends."""
    max_logit_bias: int = 1024
    """Tokens that `logit_bias` may name."""
    max_stops: int = 16
    """Texts that end an answer."""
    max_stop_characters: int = 1024
    """Of each of them."""
    max_inputs: int = 256
    """Texts of one request for embeddings."""
    request_seconds: float = 600.0
    """From a request's arrival to its end."""
    queue_seconds: float = 60.0
    """Of these, before its prompt begins to be read."""

    # How a text goes out.
    coalesce_seconds: float = 0.02
    """Tokens that come within it go out together."""
    ping_seconds: float = 15.0
    """A stream in which nothing went out for so long gets a comment, which keeps it open."""
    backlog_bytes: int = 256 * 1024
    """What may wait for a client that does not read; more ends its request."""
    backlog_seconds: float = 30.0
    """How long it may wait."""

    # How it is looked after.
    step_seconds: float = 120.0
    """A step of the engine that takes longer has hung: the server says that it is down (503)."""
    probe_seconds: float = 10.0
    """`/health?deep=1` asks the engine for a token at most as often, and waits as long for it."""

    # What a connection may do.
    max_body_bytes: int = 8 * _MB
    """Of a request's body."""
    max_header_bytes: int = 64 * 1024
    """Of its header."""
    max_json_depth: int = 64
    """Lists and objects within each other."""
    max_json_containers: int = 2**14
    """Lists and objects of a body: a message is one, and its parts are two and more."""
    header_seconds: float = 10.0
    """From a connection's opening, or a request's first byte, to the end of its header."""
    body_seconds: float = 30.0
    """From there to the end of its body."""
    keep_alive_seconds: float = 75.0
    """Between two requests."""
    max_connections: int = 1024
    """Open ones; a further one is closed at once."""
    max_connections_per_address: int = 256
    """Of these, from one address."""

    # What is kept.
    state_cache_bytes: int = 256 * _MB
    """Memory for the states after prompts, which the next turn goes on from; 0 keeps none."""
    state_cache_folder: Path | None = None
    """Where states go that have no place in memory; None forgets them."""
    state_cache_folder_bytes: int = 4096 * _MB
    """How much of the disk they may take."""
    max_states_per_key: int = 256
    """States that a key may keep (`/v1/states`); 0 keeps none of anybody's."""
    states_bytes: int = 256 * _MB
    """What those of all keys may take."""
    state_folder: Path | None = None
    """Where they are kept; None keeps them in memory, until the server ends."""

    # How it ends.
    drain_seconds: float = 0.0
    """On SIGTERM: how long it goes on taking requests, unready, so that a balancer looks away."""
    shutdown_seconds: float = 30.0
    """Then: how long running requests may take to end."""
    max_engine_restarts_per_hour: int = 5
    """How often an engine that broke is made anew."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                least = 0 if field.name in _MAY_BE_ZERO else 1 if isinstance(value, int) else None
                if (
                    not math.isfinite(value)
                    or value < (least or 0)
                    or (least is None and not value)
                ):
                    wanted = "above 0" if least is None else f"at least {least}"
                    raise ValueError(f"`{field.name}` must be {wanted}, got {value!r}")
        if self.state_cache_folder is not None and not self.state_cache_bytes:
            raise ValueError(_FOLDER_WITHOUT_MEMORY)
        if self.port > 65535:
            raise ValueError(f"`port` must be at most 65535, got {self.port}")
        for name in self.allowed_hosts:
            if name != "*" and not _NAME.fullmatch(name):
                raise ValueError(_NO_NAME.format(name))
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(_NO_ORIGIN.format(origin))


_FOLDER_WITHOUT_MEMORY = "`state_cache_folder` must be left out if `state_cache_bytes` is 0"
_NO_NAME = (
    "`allowed_hosts` must be names such as a.example or *.a.example, without a port, got {!r}"
)
_NO_ORIGIN = (
    "`cors_origins` must be origins such as https://a.example:8443, without a path, got {!r}"
)
_MAY_BE_ZERO = {
    *("port", "max_waiting", "max_waiting_per_key", "coalesce_seconds", "max_top_logprobs"),
    *("state_cache_bytes", "state_cache_folder_bytes", "max_states_per_key"),
    *("states_bytes", "drain_seconds", "shutdown_seconds", "max_engine_restarts_per_hour"),
    "tokens_per_minute_per_key",
}

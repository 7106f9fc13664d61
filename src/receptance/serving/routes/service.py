"""What all routes share: the model, the engine room, the limits, and who may ask for what."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from starlette.requests import Request as HTTPRequest

from receptance.errors import RequestError
from receptance.inference import Constraint, LanguageModel
from receptance.serving.chat import ChatTemplate
from receptance.serving.engine_room import EngineRoom
from receptance.serving.grammar import Grammar, GrammarCompiler
from receptance.serving.metrics import Metrics
from receptance.serving.protocol import (
    Body,
    Envelope,
    JSONObjectFormat,
    JSONSchemaFormat,
    RegexFormat,
    ResponseFormat,
    TextFormat,
    TokenTexts,
    WritingBody,
    require_known,
    require_possible,
)
from receptance.serving.routes.side_thread import SideThread
from receptance.serving.settings import Settings
from receptance.serving.state_store import StateStore

ANONYMOUS = "anonymous"
"""The owner of requests at a server without keys."""


def owner_of(request: HTTPRequest) -> str:
    """Return whose a request is, as the perimeter says."""
    return request.scope.get("state", {}).get("owner", ANONYMOUS)


def fingerprint_of(lm: LanguageModel) -> str:
    """Return a word that changes when a seed may give another text: other weights or numerics."""
    dtype = str(next(lm.model.parameters()).dtype)
    told = "|".join((lm.fingerprint, dtype, torch.__version__))
    return f"fp_{hashlib.blake2b(told.encode(), digest_size=6).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A model and all that serves it."""

    lm: LanguageModel
    settings: Settings
    room: EngineRoom
    metrics: Metrics
    model_id: str
    template: ChatTemplate
    grammars: GrammarCompiler
    states: StateStore
    side: SideThread
    """Where grammars are made, and templates of others run."""
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def texts(self) -> TokenTexts:
        """What names tokens in logprobs."""
        return TokenTexts(self.lm.tokenizer)

    def envelope(self, kind: str, model: str) -> Envelope:
        """Return what the objects of one answer have in common.

        Args:
            kind: "chatcmpl" or "cmpl".
            model: What the request calls it.
        """
        name = model if self.settings.any_model_name else self.model_id
        return Envelope(kind=kind, model=name, system_fingerprint=self.fingerprint)

    def require_served(self, body: Body, model: str | None) -> None:
        """Refuse fields that are not honoured, and a model that is not here.

        Args:
            body: What was sent.
            model: The model that it names; None is whichever is here.

        Raises:
            RequestError: With the field's name.
        """
        require_known(body, is_strict=self.settings.strict_params)
        if model is not None:
            self.require_model(model)
        if isinstance(body, WritingBody):
            require_possible(body, self.settings)

    def require_model(self, model: str) -> None:
        """Refuse a model that is not here.

        Raises:
            RequestError: 404, by the code that clients know.
        """
        if model != self.model_id and not self.settings.any_model_name:
            raise RequestError(
                f"`model` must be {self.model_id!r} at this server, but it is {model[:100]!r}; "
                "GET /v1/models lists what is served",
                status=404,
                code="model_not_found",
                param="model",
            )

    async def constraint(
        self, form: ResponseFormat | None, owner: str
    ) -> Callable[[], Constraint] | None:
        """Return what keeps each text of a request to a form; None if any text will do.

        Args:
            form: What was asked for.
            owner: Whose turn it takes.

        Raises:
            RequestError: If a schema or expression is wrong or too large.
        """
        if form is None or isinstance(form, TextFormat):
            return None
        return (await self.side.do(owner, partial(self._compiled, form))).start

    def _compiled(self, form: JSONObjectFormat | JSONSchemaFormat | RegexFormat) -> Grammar:
        match form:
            case JSONObjectFormat():
                return self.grammars.json_object()
            case JSONSchemaFormat():
                return self.grammars.json_schema(form.json_schema.schema_)
            case RegexFormat():
                return self.grammars.regex(form.pattern)

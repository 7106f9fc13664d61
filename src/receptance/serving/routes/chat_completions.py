"""`/v1/chat/completions`: the next turn of a conversation."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from receptance.inference import Request, TokenLogprobs
from receptance.serving.chat import FolderTemplate, Message, RenderedPrompt
from receptance.serving.engine_room import Finished, Job, Ticket
from receptance.serving.off_loop import WrittenJSON, json_bytes, json_response, off_loop
from receptance.serving.protocol import (
    VALUES_OF_A_CHAT_LOGPROB,
    ChatBody,
    Stream,
    TextTokens,
    chat_answer_choice,
    chat_logprobs,
    finish_reason,
    require_possible_chat,
    require_possible_logprobs,
    sampling_params,
)
from receptance.serving.routes.keeping import Keeping, start_of
from receptance.serving.routes.leaving import begun
from receptance.serving.routes.read_once import ReadOnceRoute
from receptance.serving.routes.service import ANONYMOUS, Service, owner_of
from receptance.serving.routes.writing import Answer, Tally, read_prompts
from receptance.tokenizer import Tokenizer

_TURN = 32
"""How many characters the frame of a turn counts as, which takes time also where it says little."""


@dataclass(frozen=True, kw_only=True)
class _Turn(Answer):
    """The next turn of a conversation, `n` times."""

    body: ChatBody
    strips_space: bool
    tokenizer: Tokenizer

    @property
    def ticket(self) -> Ticket:
        """That of all texts."""
        return self.tickets[0]

    async def whole(self) -> Response:
        """Return it as one object."""
        await read_prompts(self.tickets, self.tally)
        finished = await self.ticket.finished()
        for each in finished:
            self.tally.note(each)
        size = sum(self._size(each.tokens) for each in finished)
        choices = await off_loop(size, lambda: [self._choice(each) for each in finished])
        usage, more = self.tally.usage, await self.more(finished[-1])
        answer = self.envelope.object("chat.completion", choices, usage=usage, **more)
        return await json_response(0, answer)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield it as events: each block holds all that is known by then."""
        stream = Stream(self.envelope, includes_usage=self.body.includes_usage)
        await read_prompts(self.tickets, self.tally)
        yield b"".join(stream.begin(index) for index in range(self.body.n or 1))
        last: Finished | None = None
        texts = [_TurnText(self) for _ in range(self.body.n or 1)]
        async for piece in self.ticket.pieces():
            ended = None if piece.finished is None else piece.finished.generation.finish_reason
            say = partial(texts[piece.index].push, piece.tokens, piece.text, ended)
            text, logprobs = await off_loop(self._size(piece.tokens), say)
            block = b""
            if text or (logprobs and logprobs["content"]):
                write = partial(stream.text, piece.index, text, logprobs)
                block = await off_loop(self._size(piece.tokens), write)
            if piece.finished is not None:
                last = piece.finished
                self.tally.note(last)
                block += stream.finish(piece.index, finish_reason(last.generation))
            if block:
                yield block
        yield stream.end(self.tally.usage, **await self.more(last))

    def _choice(self, finished: Finished) -> WrittenJSON:
        whole = finished.generation
        text, logprobs = _TurnText(self).push(finished.tokens, whole.text, whole.finish_reason)
        choice = chat_answer_choice(finished.index, text, finish_reason(whole), logprobs)
        return WrittenJSON(json_bytes(choice))

    def _size(self, tokens: Sequence[TokenLogprobs]) -> int:
        """About how many values of JSON tell of tokens."""
        return len(tokens) * (1 + (self.body.n_logprobs or 0)) * VALUES_OF_A_CHAT_LOGPROB


class _TurnText:
    """One text of a turn as it is told: without the space before it, and with its tokens."""

    def __init__(self, turn: _Turn) -> None:
        """Begin an empty text."""
        self._texts = turn.texts
        self._tokens = TextTokens(turn.tokenizer) if turn.body.logprobs else None
        self._strips_space = turn.strips_space

    def push(
        self, tokens: Sequence[TokenLogprobs], written: str, ended: str | None
    ) -> tuple[str, dict[str, Any] | None]:
        """Return the next text, and the logprobs of what it was written by if they are wanted.

        Args:
            tokens: The next that were chosen.
            written: The text that they let out.
            ended: Its `finish_reason`, if it is over.
        """
        text = written.lstrip() if self._strips_space else written
        self._strips_space = self._strips_space and not text
        if self._tokens is None:
            return text, None
        n_cut = len(written) - len(text)
        placed = self._tokens.push(tokens, written, n_cut=n_cut, ended=ended)
        return text, chat_logprobs([each.said for each in placed], self._texts)


def chat_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(route_class=ReadOnceRoute)

    @router.post("/v1/chat/completions", response_model=None)
    async def create_chat_completion(body: ChatBody, request: HTTPRequest) -> Response:
        """Write the next turn of a conversation."""
        work = _begin(service, body, owner_of(request))
        answer = await begun(request, work, leave=Answer.leave, settings=service.settings)
        return await answer.response(request, service.settings)

    return router


async def render(
    service: Service,
    messages: list[Message],
    *,
    owner: str = ANONYMOUS,
    goes_on: bool = False,
    asks: bool = True,
) -> RenderedPrompt:
    """Return what the model reads of a conversation, off the event loop if it may take long.

    Args:
        service: Whose template writes it.
        messages: The turns.
        owner: Whose turn it takes, if the template is a program of others.
        goes_on: Whether a state remembers turns that came before these.
        asks: Whether an answer is to be written next.

    Raises:
        RequestError: If it cannot be written.
    """
    write = partial(service.template.render, messages, goes_on=goes_on, asks=asks)
    if isinstance(service.template, FolderTemplate):
        return await service.side.do(owner, write)
    return await off_loop(sum(_TURN + len(each.content) for each in messages), write)


async def _begin(service: Service, body: ChatBody, owner: str) -> _Turn:
    """Check a request, and hand it to the engine."""
    tally = Tally()
    service.require_served(body, body.model)
    require_possible_chat(body, service.settings)
    constraint = await service.constraint(body.response_format, owner)
    messages = [Message(each.role, each.text) for each in body.messages]
    start = await start_of(service, owner, body.state)
    goes_on = start.state is not None
    prompt = await render(service, messages, owner=owner, goes_on=goes_on)
    params = sampling_params(
        body,
        service.settings,
        vocab_size=service.lm.tokenizer.vocab_size,
        stops=prompt.stop,
    )
    n_written = params.max_tokens * (body.n or 1)
    require_possible_logprobs(body.n_logprobs, 0, n_written, service.settings)
    request = Request(
        prompt.tokens,
        params,
        start.state,
        constraint=constraint,
        logprobs=body.n_logprobs,
        cache_scope=start.cache_scope(owner),
    )
    keeping = await Keeping.begin(service, body, owner, start)
    try:
        job = Job(
            request=request, n=body.n or 1, owner=owner, param="messages", arrived=tally.began
        )
        ticket = await service.room.submit(job)
    except BaseException:
        keeping.leave()
        raise
    return _Turn(
        body=body,
        tickets=[ticket],
        keeping=keeping,
        envelope=service.envelope("chatcmpl", body.model),
        tally=tally,
        texts=service.texts,
        tokenizer=service.lm.tokenizer,
        # A grammar says of every character where it stands.
        strips_space=prompt.strips_space and constraint is None,
    )

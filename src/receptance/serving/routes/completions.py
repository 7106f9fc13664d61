"""`/v1/completions`: texts that go on from prompts."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from receptance.errors import RequestError, TokenizerError
from receptance.inference import Request
from receptance.serving.engine_room import Finished, Job, Piece, PromptRead
from receptance.serving.off_loop import WrittenJSON, json_bytes, json_response, off_loop
from receptance.serving.protocol import (
    VALUES_OF_A_COMPLETION_LOGPROB,
    CompletionBody,
    CompletionLogprobs,
    Prompt,
    Stream,
    finish_reason,
    joined,
    require_possible_completion,
    require_possible_logprobs,
    sampling_params,
)
from receptance.serving.routes.keeping import Keeping, start_of
from receptance.serving.routes.leaving import begun
from receptance.serving.routes.read_once import ReadOnceRoute
from receptance.serving.routes.service import Service, owner_of
from receptance.serving.routes.writing import Answer, Tally, pieces_of, read_prompts
from receptance.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class _Texts(Answer):
    """`n` texts of each prompt, in the order of the prompts."""

    body: CompletionBody
    prompts: Sequence[list[int]]
    tokenizer: Tokenizer

    async def whole(self) -> Response:
        """Return it as one object."""
        read = await read_prompts(self.tickets, self.tally)
        drafts = [await ticket.finished() for ticket in self.tickets]
        size = 0
        for number, of_prompt in enumerate(drafts):
            for each in of_prompt:
                self.tally.note(each)
                size += self._size(len(each.tokens)) + self._echo_size(number)
        choices = await off_loop(size, partial(self._choices, drafts, read))
        # Of several texts no state is kept.
        usage, more = self.tally.usage, await self.more(drafts[-1][-1])
        answer = self.envelope.object("text_completion", choices, usage=usage, **more)
        return await json_response(0, answer)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield it as events: each block holds all that is known by then."""
        stream = Stream(self.envelope, includes_usage=self.body.includes_usage)
        n = self.body.n or 1
        last: Finished | None = None
        counters = [
            CompletionLogprobs(self.texts, self.tokenizer) for _ in range(n * len(self.prompts))
        ]
        read = await read_prompts(self.tickets, self.tally)
        if self.body.echo:
            for index, counter in enumerate(counters):
                number = index // n
                write = partial(self._echo_text, stream, index, number, read[number], counter)
                yield await off_loop(self._echo_size(number), write)
        async for number, piece in pieces_of(self.tickets):
            index = number * n + piece.index
            write = partial(self._text, stream, index, piece, counters[index])
            block = await off_loop(self._size(len(piece.tokens)), write)
            if piece.finished is not None:
                last = piece.finished
                self.tally.note(last)
                block += stream.finish(index, finish_reason(last.generation))
            if block:
                yield block
        yield stream.end(self.tally.usage, **await self.more(last))

    def _choices(
        self, drafts: Sequence[Sequence[Finished]], read: Sequence[PromptRead]
    ) -> list[WrittenJSON]:
        best = [(number, each) for number, texts in enumerate(drafts) for each in self._best(texts)]
        return [
            self._choice(index, number, each, read[number])
            for index, (number, each) in enumerate(best)
        ]

    def _best(self, drafts: Sequence[Finished]) -> Sequence[Finished]:
        """Return the `n` drafts with the greatest ln p per token, as OpenAI defines `best_of`."""
        n = self.body.n or 1
        if n == len(drafts):
            return drafts

        def mean(draft: Finished) -> float:
            return sum(each.logprob for each in draft.tokens) / max(1, len(draft.tokens))

        return sorted(drafts, key=mean, reverse=True)[:n]

    def _choice(self, index: int, number: int, finished: Finished, read: PromptRead) -> WrittenJSON:
        counter = CompletionLogprobs(self.texts, self.tokenizer)
        text, parts = finished.generation.text, list[dict[str, Any]]()
        if self.body.echo:
            echo, logprobs = self._echo(number, read, counter)
            text = echo + text
            parts += [logprobs] if logprobs is not None else []
        if self.body.logprobs is not None:
            generation = finished.generation
            parts.append(counter.push(finished.tokens, generation.text, generation.finish_reason))
        choice = {
            "index": index,
            "text": text,
            "logprobs": joined(parts) if parts else None,
            "finish_reason": finish_reason(finished.generation),
        }
        return WrittenJSON(json_bytes(choice))

    def _text(self, stream: Stream, index: int, piece: Piece, counter: CompletionLogprobs) -> bytes:
        """Return the event of a piece; nothing if it lets out no text and tells of no token."""
        logprobs = None
        if self.body.logprobs is not None:
            ended = None if piece.finished is None else piece.finished.generation.finish_reason
            said = counter.push(piece.tokens, piece.text, ended)
            logprobs = said if said["tokens"] else None
        return stream.text(index, piece.text, logprobs) if piece.text or logprobs else b""

    def _echo_text(
        self, stream: Stream, index: int, number: int, read: PromptRead, counter: CompletionLogprobs
    ) -> bytes:
        return stream.text(index, *self._echo(number, read, counter))

    def _echo_size(self, number: int) -> int:
        """About how many values of JSON tell of a prompt that is given back."""
        return self._size(len(self.prompts[number])) if self.body.echo else 0

    def _size(self, n_tokens: int) -> int:
        """About how many values of JSON tell of tokens."""
        return n_tokens * (1 + (self.body.logprobs or 0)) * VALUES_OF_A_COMPLETION_LOGPROB

    def _echo(
        self, number: int, read: PromptRead, counter: CompletionLogprobs
    ) -> tuple[str, dict[str, Any] | None]:
        """Return the text of a prompt, and what is said of its tokens."""
        tokens = self.prompts[number]
        text = b"".join(map(self.texts.bytes_of, tokens)).decode(errors="replace")
        if self.body.logprobs is None:
            return text, None
        return text, counter.echo(tokens, read.logprobs or (), text)


def completions_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(route_class=ReadOnceRoute)

    @router.post("/v1/completions", response_model=None)
    async def create_completion(body: CompletionBody, request: HTTPRequest) -> Response:
        """Write texts that go on from prompts."""
        work = _begin(service, body, owner_of(request))
        answer = await begun(request, work, leave=Answer.leave, settings=service.settings)
        return await answer.response(request, service.settings)

    return router


async def _begin(service: Service, body: CompletionBody, owner: str) -> _Texts:
    """Check a request, and hand it to the engine."""
    tally = Tally()
    service.require_served(body, body.model)
    require_possible_completion(body, service.settings)
    constraint = await service.constraint(body.response_format, owner)
    vocab_size = service.lm.tokenizer.vocab_size
    params = sampling_params(body, service.settings, vocab_size=vocab_size)
    texts = body.prompt or [""]
    prompts = await tokens_of(service, texts, ["prompt"] * len(texts))
    start = await start_of(service, owner, body.state)
    n_prompt = sum(map(len, prompts)) if body.echo else 0
    n_written = params.max_tokens * body.n_drafts * len(prompts)
    require_possible_logprobs(body.logprobs, n_prompt, n_written, service.settings)
    judges = body.n_drafts > (body.n or 1)
    jobs = [
        Job(
            request=Request(
                prompt,
                params,
                start.state,
                constraint=constraint,
                logprobs=0 if judges and body.logprobs is None else body.logprobs,
                prompt_logprobs=body.logprobs if body.echo else None,
                cache_scope=start.cache_scope(owner),
            ),
            n=body.n_drafts,
            owner=owner,
            arrived=tally.began,
        )
        for prompt in prompts
    ]
    keeping = await Keeping.begin(service, body, owner, start)
    try:
        tickets = await service.room.submit_all(jobs)
    except BaseException:
        keeping.leave()
        raise
    return _Texts(
        body=body,
        prompts=prompts,
        tickets=tickets,
        keeping=keeping,
        envelope=service.envelope("cmpl", body.model),
        tally=tally,
        texts=service.texts,
        tokenizer=service.lm.tokenizer,
    )


async def tokens_of(
    service: Service, prompts: Sequence[Prompt], params: Sequence[str]
) -> list[list[int]]:
    """Return the tokens of prompts, made off the event loop if they are long together.

    Whether those that were sent are tokens, the engine room says.

    Args:
        service: Whose tokenizer makes them.
        prompts: Each a text, or tokens.
        params: The field that each stands in.

    Raises:
        RequestError: If a text cannot be tokenized.
    """
    size = sum(len(each) for each in prompts if isinstance(each, str))
    return await off_loop(size, partial(_encoded, service.lm.tokenizer, prompts, params))


def _encoded(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], params: Sequence[str]
) -> list[list[int]]:
    tokens: list[list[int]] = []
    for prompt, param in zip(prompts, params, strict=True):
        try:
            tokens.append(prompt if isinstance(prompt, list) else tokenizer.encode(prompt))
        except TokenizerError as error:
            raise RequestError(str(error), param=param) from error
    return tokens

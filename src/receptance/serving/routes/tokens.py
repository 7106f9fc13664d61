"""`/tokenize`, `/detokenize` and `/tokenizer_info`: what the model reads of a text."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response

from receptance.errors import RequestError, TokenizerError
from receptance.serving.chat import Message
from receptance.serving.off_loop import json_response, off_loop
from receptance.serving.protocol import DetokenizeBody, TokenizeBody, require_said
from receptance.serving.routes.chat_completions import render
from receptance.serving.routes.completions import tokens_of
from receptance.serving.routes.read_once import ReadOnceRoute
from receptance.serving.routes.service import Service, owner_of

_SHOWN = 200  # characters of what is wrong with a token, which has any number of digits
_ONE_OF_TWO = "either `prompt` or `messages` must be given"


def tokens_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=ReadOnceRoute)

    @router.post("/tokenize", response_model=None)
    async def tokenize(body: TokenizeBody, request: HTTPRequest) -> Response:
        """Return the tokens of a text, or of messages as a chat gives them to the model."""
        service.require_served(body, body.model)
        if (body.prompt is None) == (body.messages is None):
            raise RequestError(_ONE_OF_TWO, param="prompt")
        if body.messages is not None:
            require_said(body.messages, service.settings)
            messages = [Message(each.role, each.text) for each in body.messages]
            tokens = (await render(service, messages, owner=owner_of(request))).tokens
        else:
            (tokens,) = await tokens_of(service, [body.prompt or ""], ["prompt"])
        _require_possible(tokens, service, "prompt" if body.messages is None else "messages")
        return await json_response(len(tokens), {"tokens": tokens, "count": len(tokens)})

    @router.post("/detokenize", response_model=None)
    async def detokenize(body: DetokenizeBody) -> Response:
        """Return the text of tokens; what is no UTF-8 becomes U+FFFD."""
        service.require_served(body, body.model)
        _require_possible(body.tokens, service, "tokens")
        try:
            decode = partial(service.lm.tokenizer.decode, body.tokens)
            text = await off_loop(len(body.tokens), decode)
        except TokenizerError as error:
            raise RequestError(str(error)[:_SHOWN], param="tokens") from error
        return await json_response(len(text), {"prompt": text})

    @router.get("/tokenizer_info", response_model=None)
    async def tokenizer_info() -> Response:
        """Say what clients of vLLM's endpoints ask before they tokenize."""
        tokenizer = service.lm.tokenizer
        named = {"tokenizer": tokenizer.name, "vocab_size": tokenizer.vocab_size}
        # The token that ends a text has no text of its own: who writes one means those letters.
        return JSONResponse({**named, "bos_token": None, "eos_token": None, "pad_token": None})

    return router


def _require_possible(tokens: list[int], service: Service, param: str) -> None:
    """Refuse what could be no prompt."""
    most = service.settings.max_prompt_tokens
    if len(tokens) > most:
        raise RequestError(
            f"`{param}` must be at most {most} tokens, but they are {len(tokens)}",
            code="context_length_exceeded",
            param=param,
        )

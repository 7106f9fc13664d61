"""What clients send and what they get: OpenAI's objects, checked field by field.

Nothing here knows of HTTP or of the engine's thread.
"""

from receptance.serving.protocol.answers import (
    DONE,
    PING,
    Envelope,
    Stream,
    chat_answer_choice,
    event,
    finish_reason,
    usage_object,
)
from receptance.serving.protocol.body import Body, invalid_body, require_known
from receptance.serving.protocol.chat import (
    ChatBody,
    ChatMessage,
    require_possible_chat,
    require_said,
)
from receptance.serving.protocol.completions import CompletionBody, require_possible_completion
from receptance.serving.protocol.embeddings import (
    EmbeddingBody,
    embedding_object,
    require_possible_embedding,
    unit_vector,
)
from receptance.serving.protocol.logprobs import (
    VALUES_OF_A_CHAT_LOGPROB,
    VALUES_OF_A_COMPLETION_LOGPROB,
    CompletionLogprobs,
    TokenTexts,
    chat_logprobs,
    joined,
)
from receptance.serving.protocol.prompts import Prompt
from receptance.serving.protocol.response_format import (
    JSONObjectFormat,
    JSONSchemaFormat,
    RegexFormat,
    ResponseFormat,
    TextFormat,
)
from receptance.serving.protocol.states import ForkBody, StateBody, require_possible_state
from receptance.serving.protocol.text_tokens import TextTokens
from receptance.serving.protocol.tokens import DetokenizeBody, TokenizeBody
from receptance.serving.protocol.writing import (
    WritingBody,
    require_possible,
    require_possible_logprobs,
    sampling_params,
)

__all__ = [
    "DONE",
    "PING",
    "VALUES_OF_A_CHAT_LOGPROB",
    "VALUES_OF_A_COMPLETION_LOGPROB",
    "Body",
    "ChatBody",
    "ChatMessage",
    "CompletionBody",
    "CompletionLogprobs",
    "DetokenizeBody",
    "EmbeddingBody",
    "Envelope",
    "ForkBody",
    "JSONObjectFormat",
    "JSONSchemaFormat",
    "Prompt",
    "RegexFormat",
    "ResponseFormat",
    "StateBody",
    "Stream",
    "TextFormat",
    "TextTokens",
    "TokenTexts",
    "TokenizeBody",
    "WritingBody",
    "chat_answer_choice",
    "chat_logprobs",
    "embedding_object",
    "event",
    "finish_reason",
    "invalid_body",
    "joined",
    "require_known",
    "require_possible",
    "require_possible_chat",
    "require_possible_completion",
    "require_possible_embedding",
    "require_possible_logprobs",
    "require_possible_state",
    "require_said",
    "sampling_params",
    "unit_vector",
    "usage_object",
]

"""A trained model in use: text in, text out, with the state as a value that is handed around."""

from receptance.inference.chat import Chat, ChatFormat
from receptance.inference.engine import Engine
from receptance.inference.generation import Generation, TextStream
from receptance.inference.language_model import CHUNK_TOKENS, LanguageModel
from receptance.inference.loaded_adapter import LoadedAdapter
from receptance.inference.loading import load
from receptance.inference.request import Output, Request
from receptance.inference.sampling import SamplingParams

__all__ = [
    "CHUNK_TOKENS",
    "Chat",
    "ChatFormat",
    "Engine",
    "Generation",
    "LanguageModel",
    "LoadedAdapter",
    "Output",
    "Request",
    "SamplingParams",
    "TextStream",
    "load",
]

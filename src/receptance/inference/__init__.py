"""A trained model in use: text in, text out, with the state as a value that is handed around."""

from receptance.inference.chat import Chat, ChatFormat
from receptance.inference.constraint import Constraint
from receptance.inference.engine import Engine
from receptance.inference.generation import Generation, TextStream
from receptance.inference.impossible import ImpossibleRequestError
from receptance.inference.language_model import CHUNK_TOKENS, LanguageModel
from receptance.inference.loaded_adapter import LoadedAdapter
from receptance.inference.loading import load
from receptance.inference.logprobs import TokenLogprobs
from receptance.inference.prefix_cache import PrefixCache
from receptance.inference.prefix_folder import PrefixFolder
from receptance.inference.request import Output, PromptRead, Request
from receptance.inference.sampler import DivergedError
from receptance.inference.sampling import SamplingParams

__all__ = [
    "CHUNK_TOKENS",
    "Chat",
    "ChatFormat",
    "Constraint",
    "DivergedError",
    "Engine",
    "Generation",
    "ImpossibleRequestError",
    "LanguageModel",
    "LoadedAdapter",
    "Output",
    "PrefixCache",
    "PrefixFolder",
    "PromptRead",
    "Request",
    "SamplingParams",
    "TextStream",
    "TokenLogprobs",
    "load",
]

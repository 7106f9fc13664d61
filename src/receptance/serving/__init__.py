"""A model behind HTTP: OpenAI's API, states as things to keep, and a chat page."""

from receptance.serving.settings import Settings

__all__ = ["Settings"]

"""How conversations are written for a model to read."""

from receptance.serving.chat.finding import TEMPLATE_NAMES, find_template
from receptance.serving.chat.folder_template import FolderTemplate
from receptance.serving.chat.template import ChatTemplate, Message, RenderedPrompt

__all__ = [
    "TEMPLATE_NAMES",
    "ChatTemplate",
    "FolderTemplate",
    "Message",
    "RenderedPrompt",
    "find_template",
]

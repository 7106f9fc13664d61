"""Which template a model's conversations are written by."""

from pathlib import Path

from receptance.chat_format import CHAT_FORMATS
from receptance.inference import LanguageModel
from receptance.serving.chat.folder_template import FolderTemplate, read_template
from receptance.serving.chat.template import ChatTemplate
from receptance.serving.chat.turns import PlainTemplate, TurnTemplate
from receptance.tokenizer import Tokenizer

TEMPLATE_NAMES = (*CHAT_FORMATS, PlainTemplate.name)
"""The templates that come with the package; the first is the default."""


def find_template(
    source: LanguageModel | Path | None, name: str | None, tokenizer: Tokenizer
) -> ChatTemplate:
    """Return the template of a name, or a model's own.

    Args:
        source: The model, or its folder, in which its own template may be.
        name: One of `TEMPLATE_NAMES`; None is the model's own, or else the first of them.
        tokenizer: Of the model.

    Raises:
        ValueError: If no template has this name.
        CheckpointError: If the model's own is damaged, fails, or takes too much.
    """
    if name is None:
        folder = source.path if isinstance(source, LanguageModel) else source
        own = read_template(folder) if folder is not None and folder.is_dir() else None
        if own is not None:
            return FolderTemplate(own, tokenizer)
        name = TEMPLATE_NAMES[0]
    if name == PlainTemplate.name:
        return PlainTemplate(tokenizer)
    if name not in CHAT_FORMATS:
        names = ", ".join(TEMPLATE_NAMES)
        raise ValueError(f"`chat_template` must be one of {names}, but it is {name!r}")
    return TurnTemplate(name, CHAT_FORMATS[name], tokenizer)

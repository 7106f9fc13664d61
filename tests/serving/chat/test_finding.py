"""The template of a name."""

from pathlib import Path

import pytest

from receptance.inference import LanguageModel
from receptance.serving.chat.finding import TEMPLATE_NAMES, find_template
from receptance.serving.chat.template import Message
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_every_name_has_its_template(name: str):
    assert find_template(None, name, BytesTokenizer()).name == name


def test_a_model_without_a_template_speaks_as_the_world_models():
    assert find_template(None, None, BytesTokenizer()).name == "world"


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of world, raven, qa, plain, but it is 'chatml'"):
        find_template(None, "chatml", BytesTokenizer())


def test_a_models_own_template_counts_before_the_default_and_a_name_before_it(tmp_path: Path):
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    )
    lm = LanguageModel(random_rwkv4(vocab_size=256), BytesTokenizer(), path=tmp_path)
    for source in (tmp_path, lm):
        own = find_template(source, None, BytesTokenizer())
        assert own.name == "model"
        tokens = own.render([Message("user", "Hi")]).tokens
        assert BytesTokenizer().decode(tokens) == "<user>Hi<assistant>"
        assert find_template(source, "raven", BytesTokenizer()).name == "raven"

"""The template of a name."""

import pytest

from receptance.serving.chat.finding import TEMPLATE_NAMES, find_template
from receptance.tokenizer import BytesTokenizer


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_every_name_has_its_template(name: str):
    assert find_template(None, name, BytesTokenizer()).name == name


def test_a_model_without_a_template_speaks_as_the_world_models():
    assert find_template(None, None, BytesTokenizer()).name == "world"


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of world, raven, qa, plain, but it is 'chatml'"):
        find_template(None, "chatml", BytesTokenizer())

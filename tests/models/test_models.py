"""Building a model from a config, and a config from a file's entries."""

import pytest

from receptance.errors import ConfigError
from receptance.models import (
    ARCHITECTURES,
    RWKV4,
    RWKV4Config,
    build,
    config_from_dict,
    config_to_dict,
)

CONFIG = RWKV4Config(n_layer=2, n_embd=8, vocab_size=11)
ENTRIES = {"architecture": "rwkv4", "n_layer": 2, "n_embd": 8, "vocab_size": 11}


def test_build_gives_the_model_of_the_config():
    model = build(CONFIG)
    assert isinstance(model, RWKV4)
    assert model.config == CONFIG


def test_every_architecture_names_its_config_and_its_model():
    for name, (config_class, model_class) in ARCHITECTURES.items():
        assert config_class.architecture == name
        assert model_class.__name__ == config_class.__name__.removesuffix("Config")


def test_a_config_survives_the_way_through_a_file():
    assert config_to_dict(CONFIG) == ENTRIES
    assert config_from_dict(ENTRIES) == CONFIG


@pytest.mark.parametrize("architecture", ["rwkv3", "", None, [], {}])
def test_an_unknown_architecture_is_a_config_error_that_lists_the_known(architecture):
    with pytest.raises(ConfigError) as caught:
        config_from_dict({**ENTRIES, "architecture": architecture})
    assert str(caught.value) == (f"`architecture` must be one of ['rwkv4'], got {architecture!r}")


def test_a_missing_and_an_unknown_size_are_named():
    entries = {"architecture": "rwkv4", "n_layer": 2, "n_embd": 8, "n_vocab": 11}
    with pytest.raises(ConfigError) as caught:
        config_from_dict(entries)
    assert str(caught.value) == (
        "an rwkv4 must have the sizes ['n_embd', 'n_layer', 'vocab_size']: "
        "missing ['vocab_size'], unknown ['n_vocab']"
    )


SIZES = ["n_layer", "n_embd", "vocab_size"]


@pytest.mark.parametrize("value", [0, -1, True])
@pytest.mark.parametrize("name", SIZES)
def test_an_impossible_size_is_a_config_error_that_names_it(name, value):
    with pytest.raises(ConfigError) as caught:
        config_from_dict({**ENTRIES, name: value})
    assert str(caught.value) == f"`{name}` must be a positive integer, got {value!r}"


@pytest.mark.unhooked
@pytest.mark.parametrize("value", [2.0, "2", None])
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_is_no_integer_is_a_config_error_that_names_it(name, value):
    with pytest.raises(ConfigError) as caught:
        config_from_dict({**ENTRIES, name: value})
    assert str(caught.value) == f"`{name}` must be a positive integer, got {value!r}"


def test_a_normalised_embedding_is_an_entry_and_what_is_as_published_is_none():
    plain = RWKV4Config(n_layer=2, n_embd=8, vocab_size=11)
    folded = RWKV4Config(n_layer=2, n_embd=8, vocab_size=11, ln0=False)

    assert "ln0" not in config_to_dict(plain)
    assert config_to_dict(folded)["ln0"] is False
    assert config_from_dict(config_to_dict(folded)) == folded
    assert folded.n_parameters == sum(p.numel() for p in build(folded).parameters())


@pytest.mark.unhooked
def test_a_switch_that_is_no_boolean_is_a_config_error():
    with pytest.raises(ConfigError, match="`ln0` must be true or false, got 0"):
        config_from_dict({**ENTRIES, "ln0": 0})

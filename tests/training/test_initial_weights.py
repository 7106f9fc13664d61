"""A run may begin with the weights of another, and knows them again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from receptance.checkpoint import find_model, load_checkpoint, save_model
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config, build
from receptance.quantization import FORMATS, quantize_model
from receptance.tokenizer import train_bpe
from receptance.training import (
    ALONE,
    frozen_quantization,
    load_initial_weights_,
    with_known_initial_weights,
)
from receptance.training.assemble import assemble
from receptance.training.initial_weights import weights_sha256
from tests.training.bases import lora_config
from tests.training.tiny_run import tiny_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = build(tiny_config().model.build(256))
    torch.manual_seed(7)
    model.init_weights()
    save_model(model, None, tmp_path / "before")
    return tmp_path / "before"


def empty_model() -> RWKV4:
    return build(tiny_config().model.build(256))


def test_the_weights_are_those_of_the_other_model_and_the_run_keeps_their_hash(folder):
    model, again = empty_model(), empty_model()

    config = load_initial_weights_(model, tiny_config(training_init_from=str(folder)))
    load_initial_weights_(again, config)

    torch.manual_seed(7)
    expected = empty_model()
    expected.init_weights()
    assert config.training.init_sha256 == weights_sha256(expected.state_dict())
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
        assert torch.equal(again.state_dict()[name], weight), name


def test_the_other_model_is_opened_once(folder, monkeypatch):
    opened = []

    def open_and_count(source):
        opened.append(source)
        return find_model(source)

    for module in ("receptance.checkpoint.load", "receptance.training.initial_weights"):
        monkeypatch.setattr(f"{module}.find_model", open_and_count)
    load_initial_weights_(empty_model(), tiny_config(training_init_from=str(folder)))
    assert opened == [str(folder)]


def test_weights_in_bfloat16_become_those_of_the_run(folder, tmp_path):
    save_model(load_checkpoint(folder, dtype="bfloat16").model, None, tmp_path / "short")
    model = empty_model()
    load_initial_weights_(model, tiny_config(training_init_from=str(tmp_path / "short")))
    for name, weight in load_checkpoint(tmp_path / "short").model.state_dict().items():
        assert model.state_dict()[name].dtype == torch.float32
        assert torch.equal(model.state_dict()[name], weight.float()), name


def test_the_other_model_may_be_on_the_hub(folder, hub):
    hub.add("o/n", {each.name: each.read_bytes() for each in folder.iterdir()})
    model, again = empty_model(), empty_model()

    config = load_initial_weights_(model, tiny_config(training_init_from="o/n"))
    load_initial_weights_(again, tiny_config(training_init_from=str(folder)))

    assert config.training.init_sha256 == weights_sha256(again.state_dict())


def test_rounded_weights_stay_the_bytes_of_their_file(folder, tmp_path):
    quantized = quantize_model(load_checkpoint(folder).model, "int4")
    save_model(quantized, None, tmp_path / "rounded")
    config = lora_config(tmp_path / "rounded")
    format = frozen_quantization(config)
    model, _ = assemble(config, quantized.config, ALONE, format)

    config = load_initial_weights_(model, config)

    assert format == FORMATS["int4"]
    frozen = {name: each for name, each in model.state_dict().items() if "lora" not in name}
    for name, weight in quantized.state_dict().items():
        assert frozen[name].dtype == weight.dtype, name
        assert torch.equal(frozen[name], weight), name
    # They lie in one map of the file, one after the other.
    addresses = [each.data_ptr() for each in frozen.values()]
    n_bytes = sum(each.nbytes for each in frozen.values())
    assert max(addresses) - min(addresses) < 2 * n_bytes
    assert not any(each.requires_grad for name, each in model.named_parameters() if name in frozen)
    assert config.training.init_sha256 == weights_sha256(quantized.state_dict())
    assert config.training.init_sha256 != weights_sha256(load_checkpoint(folder).model.state_dict())


def test_other_weights_than_those_of_the_hash_are_refused(folder):
    config = tiny_config(training_init_from=str(folder), training_init_sha256="0" * 64)

    with pytest.raises(
        CheckpointError, match=r"must have the sha256 0{64}, as .* they have \w{64}"
    ):
        load_initial_weights_(empty_model(), config)


def test_a_model_of_another_shape_is_refused_with_both_shapes(folder):
    model = build(RWKV4Config(n_layer=3, n_embd=16, vocab_size=256))

    with pytest.raises(CheckpointError, match=r"n_layer=3, .* but it is .*n_layer=2, .*; set `mod"):
        load_initial_weights_(model, tiny_config(training_init_from=str(folder)))


def test_a_path_without_a_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="none"):
        load_initial_weights_(empty_model(), tiny_config(training_init_from=str(tmp_path / "none")))


def test_every_bit_and_every_name_is_in_the_hash():
    weights = {"a": torch.ones(2, 3), "b": torch.zeros(1)}
    nearly = torch.ones(2, 3)
    nearly[1, 2] = 1 + 2**-23

    hashes = {
        weights_sha256(each)
        for each in (
            weights,
            weights | {"a": nearly},
            weights | {"a": torch.ones(3, 2)},
            {"c": weights["a"], "b": weights["b"]},
        )
    }
    assert len(hashes) == 4
    assert weights_sha256({"b": weights["b"], "a": weights["a"]}) == weights_sha256(weights)


def test_a_run_that_goes_on_keeps_the_hash_that_it_began_with():
    config = tiny_config(training_init_from="gone/model")
    saved = replace(config, training=replace(config.training, init_sha256="3" * 64))

    assert with_known_initial_weights(config, saved) == saved
    assert with_known_initial_weights(tiny_config(), tiny_config()) == tiny_config()


def test_tokens_of_another_tokenizer_are_refused(tmp_path):
    """BlinkDL/RWKV-LM#110: with the wrong one a model is trained for days, and writes garbage."""
    theirs, ours = (train_bpe([text * 9], 258) for text in ("what they say ", "how we write "))
    model = RWKV4(RWKV4Config(n_layer=2, n_embd=8, vocab_size=258))
    model.init_weights()
    save_model(model, theirs, tmp_path / "before")
    again = build(model.config)
    config = tiny_config(training_init_from=str(tmp_path / "before"))

    with pytest.raises(CheckpointError, match="must have the tokenizer of the token store"):
        load_initial_weights_(again, config, tokenizer=ours)
    load_initial_weights_(again, config, tokenizer=theirs)

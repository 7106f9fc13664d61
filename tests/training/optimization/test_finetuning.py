"""What is trained must go with the rest of the run."""

import pytest

from receptance.errors import ConfigError
from receptance.training import config_to_toml
from tests.training.tiny_run import tiny_config


@pytest.mark.parametrize("method", ["full", "state", "lora"])
def test_a_method_needs_a_model_to_begin_with(method):
    with pytest.raises(ConfigError, match=r"`training.init_from` must name the model"):
        tiny_config(finetune_method=method)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"data_segments": 2}, "`data.segments` must be 1"),
        ({"data_reset_at_documents": True}, "`data.reset_at_documents` must be false"),
        ({"training_parallel": "fsdp2"}, "must be 'ddp' or 'none' where .* is 'state'"),
    ],
)
def test_what_the_initial_state_cannot_be_trained_with_is_refused(setting, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(finetune_method="state", training_init_from="there", **setting)


def test_all_weights_may_be_tuned_in_any_run():
    settings = {"data_segments": 2, "data_reset_at_documents": True, "training_parallel": "ddp"}
    config = tiny_config(finetune_method="full", training_init_from="there", **settings)

    assert not config.finetune.is_partial
    assert '[finetune]\nmethod = "full"' in config_to_toml(config)


def test_a_run_that_is_no_fine_tuning_is_written_as_before():
    assert "finetune" not in config_to_toml(tiny_config())


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match=r"`finetune.method` is 'sate'"):
        tiny_config(finetune_method="sate")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"finetune_targets": ["att.keys"]}, "got 'att.keys'; did you mean 'att.key'?"),
        ({"finetune_targets": ["head"]}, r"got 'head'; known: \['att.key', "),
        ({"finetune_targets": []}, "at least one layer and none twice"),
        ({"finetune_targets": ["att.key", "att.key"]}, "at least one layer and none twice"),
        ({"finetune_rank": 0}, "`finetune.rank` must be at least 1, got 0"),
        ({"finetune_alpha": 0.0}, "`finetune.alpha` must be above 0"),
        ({"finetune_dropout": 1.0}, r"`finetune.dropout` must lie in \[0, 1\), got 1.0"),
        ({"training_parallel": "fsdp2"}, "frozen weights each rank holds whole, got 'fsdp2'"),
        ({"finetune_method": "state", "finetune_rank": 4}, "`finetune.rank` must be left out"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(**{"finetune_method": "lora", "training_init_from": "there", **settings})


def test_an_adapter_may_be_trained_with_resets_and_segments():
    settings = {"data_segments": 2, "data_reset_at_documents": True}
    config = tiny_config(finetune_method="lora", training_init_from="there", **settings)

    assert config.finetune.is_partial

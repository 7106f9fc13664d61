"""A run is one TOML file: read strictly, changed by dotted keys, written back to the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from receptance.errors import ConfigError
from receptance.models import RWKV4Config
from receptance.training import (
    config_to_toml,
    differences,
    parse_config,
    read_config,
    rounding_differences,
    tokens_before,
)
from receptance.training.config import TrainingConfig
from tests.training.tiny_run import tiny_config

RECIPES = Path(__file__).parents[2] / "recipes"
TOML = """
name = "run"

[model]
n_layer = 2
n_embd = 16

[data]
store = "store"

[training]
steps = 10
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return path


def test_what_a_file_leaves_out_has_its_default(file):
    config = read_config(file)

    assert (config.name, config.seed, config.data.ctx_len) == ("run", 1, 1024)
    assert config.optimizer.betas == (0.9, 0.99)
    assert config.training.precision == "bfloat16"
    assert config.schedule.kind == "exponential"


def test_settings_change_the_file(file):
    config = read_config(
        file,
        [
            "optimizer.lr=4e-4",
            "optimizer.betas=[0.8, 0.9]",
            "schedule.kind=cosine",
            "data.reset_at_documents=true",
            "data.store=some where/a=b",
            "training.steps = 1_000",
            "name='7'",
        ],
    )

    assert config.optimizer.lr == 4e-4
    assert config.optimizer.betas == (0.8, 0.9)
    assert config.schedule.kind == "cosine"
    assert config.data.reset_at_documents is True
    assert config.data.store == "some where/a=b"
    assert config.training.steps == 1000
    assert config.name == "7"


def test_a_bare_word_that_looks_like_a_date_is_a_text(file):
    assert read_config(file, ["name=2024-01-31"]).name == "2024-01-31"


def test_a_preset_is_a_size(file):
    config = read_config(file, ["model.preset=169m", "model.n_layer=0", "model.n_embd=0"])

    assert config.model.build(50277) == RWKV4Config.preset("169m")


def test_the_vocabulary_is_the_store_s_or_a_larger_one(file):
    assert read_config(file).model.build(300).vocab_size == 300
    assert read_config(file, ["model.vocab_size=512"]).model.build(300).vocab_size == 512
    with pytest.raises(ConfigError, match=r"`model\.vocab_size` must be at least 300, .* got 256"):
        read_config(file, ["model.vocab_size=256"]).model.build(300)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.learning_rate=1", "unknown key 'optimizer.learning_rate'"),
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        ("optmizer.lr=1", "unknown key 'optmizer'; did you mean 'optimizer'?"),
        ("steps=3", "unknown key 'steps'; did you mean 'training.steps'?"),
        ("zzz=1", "unknown key 'zzz'; known: ['data', 'every', 'finetune', 'model'"),
        ("model=3", "`model` must be a table, got 3"),
        ("training.steps=ten", "`training.steps` is 'ten': Input should be a valid integer"),
        ("training.steps=1.5", "`training.steps` is 1.5: Input should be a valid integer"),
        ("training.steps=true", "`training.steps` is True: Input should be a valid integer"),
        ("training.steps=0", "`training.steps` must be at least 1, got 0"),
        ("training.steps=2024-01-31", "`training.steps` is '2024-01-31'"),
        ("training.auxiliary_loss=-1.0", "`training.auxiliary_loss` must not be negative"),
        ("training.precision=fp8", "`training.precision` is 'fp8': Input should be 'bfloat16'"),
        ("optimizer.lr=nan", "`optimizer.lr` must be finite, got nan"),
        ("schedule.final_lr=-inf", "`schedule.final_lr` must be finite, got -inf"),
        ("optimizer.betas=[0.9]", "`optimizer.betas.1` is missing"),
        ("optimizer.betas=[0.9, nan]", "`optimizer.betas` must lie in [0, 1)"),
        ("data.ctx_len=0", "`data.ctx_len` must be at least 1, got 0"),
        ("data.batch_size=-1", "`data.batch_size` must be at least 1, got -1"),
        ("data.micro_batch_size=3", "must divide `data.batch_size`, 16, got 3"),
        ("data.micro_batch_size=-4", "must divide `data.batch_size`, 16, got -4"),
        ("data.micro_batch_size=32", "must divide `data.batch_size`, 16, got 32"),
        ("data.segments=0", "`data.segments` must be at least 1, got 0"),
        ("data.later_batch_size=-2", "`data.later_batch_size` must not be negative, got -2"),
        ("data.later_batch_size=32", "must both be given or neither, got 32 and 0"),
        ("data.later_batch_step=3", "must both be given or neither, got 0 and 3"),
        ("training.dropout=1.0", "`training.dropout` must lie in [0, 1), got 1.0"),
        ("training.dropout=-0.1", "`training.dropout` must lie in [0, 1), got -0.1"),
        ("training.parallel=tensor", "`training.parallel` is 'tensor': Input should be 'none'"),
        ("training.compile=1", "`training.compile` is 1: Input should be a valid boolean"),
        ("training.init_sha256=ab", "must be empty where `training.init_from` is, got 'ab'"),
        ("model.preset=169m", "must have either `preset` or both `n_layer` and `n_embd`"),
        ("model.preset=170m", "`model.preset` is '170m'"),
        ("model.n_embd=0", "must have either `preset` or both `n_layer` and `n_embd`"),
        ("every.checkpoint_steps=-1", "`every.checkpoint_steps` must be at least 0, got -1"),
        ("every.checkpoint_minutes=-1", "`every.checkpoint_minutes` must be at least 0, got -1.0"),
        ("every.keep_every=-1", "`every.keep_every` must be at least 0, got -1"),
        ("every.keep_best=-1", "`every.keep_best` must be at least 0, got -1"),
        ("every.save_asynchronously=7", "`every.save_asynchronously` is 7: Input should be a va"),
        ("every.keep_checkpoints=0", "`every.keep_checkpoints` must be at least 1, got 0"),
        ("every.validation_tokens=0", "`every.validation_tokens` must be at least 1, got 0"),
        ("every.sample_tokens=0", "`every.sample_tokens` must be at least 1, got 0"),
        ("name=''", "`name` must be the name of a folder, got ''"),
        ("name=..", "`name` must be the name of a folder, got '..'"),
        ("name=a/b", "`name` must be the name of a folder, got 'a/b'"),
        ('name="a\\u0000b"', r"`name` must be the name of a folder, got 'a\x00b'"),
        ("name=7", "`name` is 7: Input should be a valid string"),
        ("seed=-1", "`seed` must lie in 0 to 2^63 - 1, got -1"),
        ("seed=9223372036854775808", "`seed` must lie in 0 to 2^63 - 1"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(file, setting, words):
    with pytest.raises(ConfigError) as caught:
        read_config(file, [setting])
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("setting", ["training.steps", "=3", ""])
def test_a_setting_that_is_none_is_quoted(file, setting):
    with pytest.raises(ConfigError) as caught:
        read_config(file, [setting])
    assert str(caught.value) == f"a setting must be written key=value, got {setting!r}"


def test_a_setting_below_a_value_is_refused(file):
    with pytest.raises(ConfigError, match=r"'name\.x=1': `name` is a value and has no keys"):
        read_config(file, ["name.x=1"])


def test_a_preset_with_a_size_is_refused_and_not_half_used():
    with pytest.raises(ConfigError, match="either `preset` or both"):
        tiny_config(model_preset="169m", model_n_embd=0)


@pytest.mark.parametrize("section", ["model", "data", "training", "name"])
def test_what_is_missing_is_named(section):
    entries = {"name": "x", "model": {"preset": "169m"}, "data": {"store": "s"}}
    entries["training"] = {"steps": 1}
    del entries[section]

    with pytest.raises(ConfigError) as caught:
        parse_config(entries, "run.toml")
    assert str(caught.value) == f"run.toml: `{section}` is missing"


def test_a_missing_key_of_a_table_is_named(file):
    file.write_text(TOML.replace("steps = 10", ""))

    with pytest.raises(ConfigError, match=r"`training\.steps` is missing"):
        read_config(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name = run", "must be TOML, but it is not: Invalid value (at line 1"),
        (b"\x80\x81\x82", "must be TOML in UTF-8, but it is not text"),
        (b"\0\0\0\0", "must be TOML, but it is not"),
        (b"a = 1\na = 2", "must be TOML, but it is not: Cannot overwrite a value"),
    ],
)
def test_what_is_no_toml_is_named(file, content, words):
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert str(caught.value).startswith(f"{file} ")
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"by a TOML file, but '.*none\.toml' does not exist"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"by a TOML file, but '.*' is a folder"):
        read_config(tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(store=texts, prompt=texts, lr=st.floats(1e-300, 1e300), steps=st.integers(1, 2**70))
def test_a_config_is_read_back_as_it_was_written(tmp_path_factory, store, prompt, lr, steps):
    config = tiny_config(
        data_store=store, every_sample_prompt=prompt, optimizer_lr=lr, training_steps=steps
    )
    file = tmp_path_factory.getbasetemp() / "written.toml"

    file.write_bytes(config_to_toml(config).encode())

    assert read_config(file) == config


def test_differences_are_what_changes_the_numbers_of_a_run():
    old = tiny_config()
    new = tiny_config(seed=2, optimizer_betas=[0.5, 0.6], every_sample_steps=3, name="other")

    assert differences(old, old) == []
    assert differences(old, replace(old, every=new.every, name="other")) == []
    assert differences(old, new) == [
        "`seed` was 1, now 2",
        "`optimizer.betas` was (0.9, 0.99), now (0.5, 0.6)",
    ]


def test_a_later_batch_begins_within_the_run_and_at_a_sample():
    later = {"data_later_batch_size": 8, "data_later_batch_step": 6}

    assert tiny_config(**later).data.later_batch_size == 8
    with pytest.raises(ConfigError, match=r"must be below `training.steps`, 6, got 6"):
        tiny_config(**later, training_steps=6)
    with pytest.raises(ConfigError, match=r"multiple of `data.segments`, 4, .* got 6"):
        tiny_config(**later, data_segments=4)
    with pytest.raises(ConfigError, match=r"divide `data.later_batch_size`, 6, got 4"):
        tiny_config(data_later_batch_size=6, data_later_batch_step=6, data_micro_batch_size=4)


def test_what_only_rounds_otherwise_does_not_make_another_run():
    old = tiny_config()
    new = tiny_config(
        data_micro_batch_size=2,
        training_compile=True,
        training_checkpoint_layers=True,
        training_parallel="fsdp2",
    )

    assert differences(old, new) == []
    assert rounding_differences(old, new) == [
        "`data.micro_batch_size` was 0, now 2",
        "`training.checkpoint_layers` was False, now True",
        "`training.compile` was False, now True",
        "`training.parallel` was 'none', now 'fsdp2'",
    ]
    assert rounding_differences(old, tiny_config(seed=2)) == []


def test_the_weights_to_begin_with_are_a_part_of_the_run():
    old = tiny_config(training_init_from="a/model", training_init_sha256="1" * 64)

    assert differences(old, tiny_config(training_init_from="a/model")) == []
    assert differences(old, tiny_config(training_init_from="b/model")) == [
        "`training.init_from` was 'a/model', now 'b/model'"
    ]
    other = tiny_config(training_init_from="a/model", training_init_sha256="2" * 64)
    assert differences(old, other) == [f"`training.init_sha256` was '{'1' * 64}', now '{'2' * 64}'"]


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("**/*.toml")), ids=lambda path: path.name)
def test_every_recipe_is_a_run(recipe):
    config = read_config(recipe)

    assert config.model.build(256).n_parameters > 0


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*-pile.toml")), ids=lambda path: path.name)
def test_the_recipes_of_the_pile_see_as_many_tokens_as_the_authors(recipe):
    config = read_config(recipe)

    mini_epoch = 40320 * 1024
    n_tokens = tokens_before(config.data, config.training.steps)
    # Half a mini-epoch of 256 sequences is half a step more.
    assert 0 <= 8043 * mini_epoch - n_tokens <= 128 * 1024
    switch = config.data.later_batch_step
    assert config.schedule.constant_steps == switch
    assert tokens_before(config.data, switch) % mini_epoch == 0


def test_there_are_recipes():
    assert list(RECIPES.glob("**/*.toml"))


def test_a_schedule_that_never_comes_to_its_end_is_refused():
    with pytest.raises(ConfigError, match=r"must be at most `training.steps`, 12, got 13"):
        tiny_config(schedule_warmup_steps=8, schedule_constant_steps=5)


@pytest.mark.parametrize(("n_gpus", "expected"), [(0, "cpu"), (1, "cuda")])
def test_a_run_on_auto_takes_the_gpu_that_is_there(monkeypatch, n_gpus, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)

    assert TrainingConfig(steps=1, device="auto").device_type == expected
    assert TrainingConfig(steps=1, device="cuda").device_type == "cuda"

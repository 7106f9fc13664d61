"""A run that trains a state leaves the model as it was, and the state beside it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from receptance.checkpoint import read_adapter, save_model
from receptance.errors import CheckpointError, ConfigError
from receptance.inference import load
from receptance.models import RWKV4, LowRank, LowRankChanges, build, changed_model
from receptance.training import (
    ADAPTER_FILE,
    Objective,
    autocast,
    list_checkpoints,
    open_run,
    save_finished,
)
from tests.training.bases import ROUNDED, lora_config, save_base, state_config
from tests.training.tiny_run import hooks, stop_after, tiny_batch, tiny_config, tiny_train


@pytest.fixture(params=[torch.float32, torch.bfloat16, *ROUNDED])
def base(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model that knows the text a little, in one dtype or the other, or rounded."""
    return save_base(request.param, tmp_path / "model")


def test_nothing_of_the_model_changes_but_its_state(base, tmp_path):
    run, _ = tiny_train(state_config(base, training_steps=40), tmp_path / "run")
    save_finished(run.model, run.config, None, tmp_path / "tuned")

    before, after = (
        {file.name: file.read_bytes() for file in folder.iterdir()}
        for folder in (base, tmp_path / "tuned")
    )
    assert set(after) == {*before, "initial_state.safetensors"}
    assert before == {name: after[name] for name in before}
    tuned, plain = load(tmp_path / "tuned"), load(base)
    assert tuned.fingerprint == plain.fingerprint
    prompt = [116, 104, 101]
    state = plain.load_state(tmp_path / "tuned" / "initial_state.safetensors")
    assert torch.equal(tuned.forward(prompt)[0], plain.forward(prompt, state)[0])
    assert not torch.equal(tuned.forward(prompt)[0], plain.forward(prompt)[0])
    batch = tiny_batch(500, 32)
    start = run.model.start_state(32)
    zero = run.model.zero_state(32)
    with torch.no_grad():
        tuned_loss, plain_loss = (
            run.objective(batch.tokens, batch.targets, each, None)[0].cross_entropy
            for each in (start, zero)
        )
    assert tuned_loss < plain_loss


def test_a_run_that_was_stopped_comes_to_the_same_bits(base, tmp_path):
    whole, _ = tiny_train(state_config(base, training_dropout=0.1), tmp_path / "whole")
    config = state_config(base, training_dropout=0.1)
    tiny_train(config, tmp_path / "run", hooks(should_stop=stop_after(5)))
    again, progress = tiny_train(config, tmp_path / "run")

    assert progress.step == 12
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    names = {file.name for file in newest.rglob("*") if file.is_file()}
    assert names == {
        *("MANIFEST.json", "optimizer.safetensors", "random.json"),
        *("trained.safetensors", "training.json"),
    }
    n_numbers = 4 * 2 * 16
    assert (newest / "trained.safetensors").stat().st_size < 4 * n_numbers + 1000


def test_a_second_tuning_begins_with_the_state_of_the_first(base, tmp_path):
    run, _ = tiny_train(state_config(base), tmp_path / "run")
    save_finished(run.model, run.config, None, tmp_path / "tuned")

    config = state_config(tmp_path / "tuned")
    again = open_run(config, tmp_path / "again", config.model.build(256))

    for one, other in zip(again.model.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_base_that_became_another_model_is_refused(base, tmp_path):
    config = state_config(base)
    tiny_train(config, tmp_path / "run", hooks(should_stop=stop_after(5)))
    torch.manual_seed(3)
    other = build(config.model.build(256))
    other.init_weights()
    save_model(other, None, base, replace=True)

    with pytest.raises(CheckpointError, match="must have the sha256"):
        open_run(config, tmp_path / "run", config.model.build(256))


def test_the_figures_count_the_products_that_are_computed(base, tmp_path):
    run, _ = tiny_train(state_config(base), tmp_path / "run")

    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    forward = run.model.config.flops_per_token
    per_token = line["flops_per_s"] / line["tokens_per_s"]
    assert per_token == pytest.approx(2 * forward, rel=1e-3)


def test_the_loss_is_that_of_the_state_and_not_of_the_zero_state(base, tmp_path):
    run, _ = tiny_train(state_config(base), tmp_path / "run")
    batch = tiny_batch(0, 4)

    with torch.no_grad():
        _, found = run.objective(batch.tokens, batch.targets, None, None)
        _, expected = run.objective(batch.tokens, batch.targets, run.model.start_state(4), None)

    assert torch.equal(found.num, expected.num)


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16], indirect=True)
def test_an_adapter_is_left_beside_the_model_and_loads_as_it_was_trained(base, tmp_path):
    config = lora_config(base, finetune_targets=["att.key", "ffn.value"])
    run, _ = tiny_train(config, tmp_path / "run")
    before = {file.name: file.read_bytes() for file in base.iterdir()}

    save_finished(run.model, run.config, None, tmp_path / "run" / "model")

    file = tmp_path / "run" / ADAPTER_FILE
    assert not (tmp_path / "run" / "model").exists()
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before
    is_plain = load(base).model.head.weight.dtype == torch.float32
    prompt = [116, 104, 101]
    with torch.no_grad():
        applied = run.model.eval()(torch.tensor([prompt]))[0][0, -1]
    merged = load(base, adapter=file).forward(prompt)[0]
    tolerance = 1e-5 if is_plain else 2e-2
    torch.testing.assert_close(merged, applied, rtol=tolerance, atol=tolerance)
    assert (merged - load(base).forward(prompt)[0]).abs().max() > 0.05


@pytest.mark.parametrize("base", ROUNDED, indirect=True)
def test_an_adapter_of_a_rounded_base_changes_it_as_it_was_trained(base, tmp_path):
    config = lora_config(base, training_steps=30)
    run, _ = tiny_train(config, tmp_path / "run")
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    save_finished(run.model, run.config, None, tmp_path / "run" / "model")
    batch = tiny_batch(500, 32)

    def loss(model: RWKV4) -> float:
        objective = Objective(model, auxiliary=0.0, precision="float32")
        with torch.no_grad():
            return objective(batch.tokens, batch.targets, None, None)[0].total.item()

    adapter = read_adapter(tmp_path / "run" / ADAPTER_FILE)
    plain = load(base)
    scale = adapter.alpha / adapter.rank
    layers = {name.rpartition(".")[0] for name in adapter.tensors}
    changes = {
        name: LowRank(adapter.tensors[f"{name}.lora_a"], scale * adapter.tensors[f"{name}.lora_b"])
        for name in layers
    }
    applied = changed_model(plain.model, LowRankChanges(changes))

    assert {file.name: file.read_bytes() for file in base.iterdir()} == before
    assert adapter.base == plain.fingerprint
    # In float32, with the scale multiplied in before or after.
    assert loss(applied) == pytest.approx(loss(run.model.eval()), abs=1e-5)
    assert loss(applied) < loss(plain.model) - 0.02
    unrounded = save_base(torch.float32, tmp_path / "unrounded")
    with pytest.raises(CheckpointError, match="must be an adapter of this model"):
        load(unrounded, adapter=tmp_path / "run" / ADAPTER_FILE)


@pytest.mark.parametrize("base", ROUNDED, indirect=True)
def test_all_weights_of_a_rounded_base_cannot_be_trained(base, tmp_path):
    config = tiny_config(training_init_from=str(base))
    with pytest.raises(ConfigError, match=r"must hold plain weights .* rounded to \d bits; take"):
        tiny_train(config, tmp_path / "run")
    message = r"`training.parallel` must be 'none' where the weights .*, got 'ddp'"
    with pytest.raises(ConfigError, match=message):
        tiny_train(lora_config(base, training_parallel="ddp"), tmp_path / "run")


@pytest.mark.parametrize("base", ["int4"], indirect=True)
def test_what_a_run_trains_beside_a_rounded_base_writes_and_is_measured(base, tmp_path):
    """By its own forward, as the decoding step merges."""
    run, _ = tiny_train(lora_config(base), tmp_path / "run")
    model = run.model.eval()
    tokens = tiny_batch(0, 1).tokens
    with torch.no_grad(), autocast("bfloat16"):
        _, state = model(tokens[:, :-1])
        expected = model(tokens[:, -1:], state)[0][0]
        found = model.pack(skips_zeros=True).step(tokens[0, -1:], state, torch.tensor([0]))
    torch.testing.assert_close(found, expected)


def test_an_adapter_whose_run_was_stopped_comes_to_the_same_bits(base, tmp_path):
    config = lora_config(base, finetune_dropout=0.2)
    whole, _ = tiny_train(config, tmp_path / "whole")
    tiny_train(config, tmp_path / "run", hooks(should_stop=stop_after(5)))
    again, progress = tiny_train(config, tmp_path / "run")

    assert progress.step == 12
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert not (newest / "model").exists()
    with safe_open(newest / "trained.safetensors", framework="pt") as file:
        assert len(list(file.keys())) == 2 * 7 * 2


@pytest.mark.parametrize("config_of", [state_config, lora_config])
def test_a_run_that_was_killed_between_checkpoints_comes_to_the_same_bits(
    base, tmp_path, config_of
):
    def kill(_model: object, step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    config = config_of(base, every_sample_steps=6)
    whole, _ = tiny_train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tiny_train(config, tmp_path / "run", hooks(sample=kill))
    (saved,) = list_checkpoints(tmp_path / "run" / "checkpoints")

    again, progress = tiny_train(config, tmp_path / "run")

    assert (saved.name, progress.step) == ("step-00000004", 12)
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("config_of", [state_config, lora_config])
def test_what_was_trained_is_not_given_to_a_base_that_came_later(base, tmp_path, config_of):
    run, _ = tiny_train(config_of(base, training_steps=2), tmp_path / "run")
    other = build(run.model.config)
    other.init_weights()
    save_model(other, None, base, replace=True)

    with pytest.raises(CheckpointError, match="must be those that the run began with"):
        save_finished(run.model, run.config, None, tmp_path / "run" / "model")
    assert not (tmp_path / "run" / ADAPTER_FILE).exists()
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("config_of", [state_config, lora_config])
def test_a_checkpoint_goes_on_beside_the_weights_that_it_was_trained_beside(
    base, tmp_path, config_of
):
    tiny_train(config_of(base, training_steps=4), tmp_path / "run")
    (newest,) = list_checkpoints(tmp_path / "run" / "checkpoints")[-1:]
    other = build(load(base).model.config)
    other.init_weights()
    save_model(other, None, tmp_path / "other")

    same, later = config_of(base), config_of(tmp_path / "other")
    shape = load(base).model.config
    open_run(same, tmp_path / "again", shape, resume=str(newest))
    with pytest.raises(CheckpointError, match=r"must be of a run with the same `.finetune.` and"):
        open_run(later, tmp_path / "more", shape, resume=str(newest))


def test_a_base_with_a_state_of_its_own_gets_no_adapter(base, tmp_path):
    load(base).prefill([116, 104]).save(base / "initial_state.safetensors")

    with pytest.raises(CheckpointError, match="must have no initial state to get an adapter"):
        tiny_train(lora_config(base), tmp_path / "run")

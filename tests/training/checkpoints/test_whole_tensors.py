"""Weights and moments come back from a checkpoint as they were."""

import pytest
import torch
from safetensors import safe_open

from receptance.models import RWKV4Config
from receptance.tensor_file import ALIGNMENT
from receptance.tokenizer import train_bpe
from receptance.training import build_optimizer
from receptance.training.checkpoints.commit import StagedFolder
from receptance.training.checkpoints.whole_tensors import (
    OPTIMIZER_FILE,
    TensorStorage,
    WholeTensors,
    restore_moments,
)
from tests.random_models import random_rwkv4
from tests.training.tiny_run import tiny_config


@pytest.fixture
def model():
    return random_rwkv4(2, 16, 300)


@pytest.fixture
def optimizer(model):
    optimizer = build_optimizer(model, tiny_config().optimizer)
    model(torch.zeros(1, 4, dtype=torch.int64))[0].square().mean().backward()
    optimizer.step()
    return optimizer


CONFIG = RWKV4Config(n_layer=2, n_embd=16, vocab_size=300)


def test_it_is_a_storage():
    assert isinstance(WholeTensors(CONFIG, None), TensorStorage)


@pytest.mark.parametrize("private", [True, False])
def test_what_is_taken_shares_storage_only_where_it_may(model, optimizer, private):
    tensors = WholeTensors(CONFIG, None).take(model, optimizer, private=private)
    before = tensors.weights["head.weight"].clone()

    with torch.no_grad():
        model.head.weight.add_(1)
        optimizer.state[model.head.weight]["step"].add_(1)

    assert torch.equal(tensors.weights["head.weight"], before) == private
    assert tensors.moments["head.weight.step"].item() == (1 if private else 2)
    assert tensors.n_bytes == sum(12 * p.numel() + 4 for p in model.parameters())


def test_a_rank_that_does_not_write_takes_nothing(model, optimizer, tmp_path):
    storage = WholeTensors(CONFIG, None, writes=False)

    tensors = storage.take(model, optimizer, private=True)
    storage.write(tensors, StagedFolder(tmp_path))

    assert tensors.n_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_that_took_no_step_has_moments_of_zero(model, tmp_path):
    optimizer = build_optimizer(model, tiny_config().optimizer)
    storage = WholeTensors(CONFIG, None)
    storage.write(storage.take(model, optimizer, private=False), StagedFolder(tmp_path))

    storage.restore(tmp_path, model, optimizer)

    states = optimizer.state.values()
    assert len(states) == len(list(model.parameters()))
    assert not any(each.any() for state in states for each in state.values())


def test_an_optimizer_gets_back_all_its_entries_where_its_parameters_are(
    model, optimizer, tmp_path
):
    """The fused step of a GPU reads the count of steps there too."""
    storage = WholeTensors(CONFIG, None)
    storage.write(storage.take(model, optimizer, private=False), StagedFolder(tmp_path))
    elsewhere = model.to("meta")
    again = build_optimizer(elsewhere, tiny_config().optimizer)

    restore_moments(tmp_path / OPTIMIZER_FILE, elsewhere, again)

    found = {each.device.type for state in again.state.values() for each in state.values()}
    assert found == {"meta"}


def test_moments_lie_where_the_processor_reads_them_best(model, optimizer, tmp_path):
    storage = WholeTensors(CONFIG, None)
    storage.write(storage.take(model, optimizer, private=False), StagedFolder(tmp_path))

    with safe_open(tmp_path / "optimizer.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if not name.endswith(".step")]  # noqa: SIM118
        places = {name: file.get_tensor(name).data_ptr() % ALIGNMENT for name in names}
    assert [name for name, place in places.items() if place] == []


def test_the_tokenizer_s_file_is_hashed_too(model, optimizer, tmp_path):
    tokenizer = train_bpe(["one two one two"] * 9, 260)
    stage = StagedFolder(tmp_path)
    storage = WholeTensors(CONFIG, tokenizer)

    storage.write(storage.take(model, optimizer, private=False), stage)

    assert sorted(stage.files) == [
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "optimizer.safetensors",
    ]

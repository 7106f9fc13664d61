"""A checkpoint of frozen weights holds what is trained, and gives it back."""

import pytest
import torch

from receptance.errors import CheckpointError
from receptance.training import TensorStorage, build_optimizer
from receptance.training.checkpoints import TrainedTensors
from receptance.training.checkpoints.commit import StagedFolder
from receptance.training.finetuning import StateTunedRWKV4
from tests.random_models import random_rwkv4
from tests.training.tiny_run import tiny_config


def tuned_model():
    base = random_rwkv4(2, 16, 64)
    model = StateTunedRWKV4(base.config)
    model.load_state_dict(base.state_dict(), strict=False)
    model.initial_state.set_(base.zero_state(1))
    return model


@pytest.fixture
def model():
    return tuned_model()


@pytest.fixture
def optimizer(model):
    optimizer = build_optimizer(model, tiny_config().optimizer)
    model(torch.zeros(1, 4, dtype=torch.int64))[0].square().mean().backward()
    optimizer.step()
    return optimizer


def written(model, optimizer, folder):
    tensors = TrainedTensors().take(model, optimizer, private=False)
    TrainedTensors().write(tensors, StagedFolder(folder))
    return tensors


def test_it_is_a_storage():
    assert isinstance(TrainedTensors(), TensorStorage)


def test_only_what_is_trained_is_written_and_comes_back(model, optimizer, tmp_path):
    tensors = written(model, optimizer, tmp_path)
    again = tuned_model()
    optimizer_again = build_optimizer(again, tiny_config().optimizer)

    TrainedTensors().restore(tmp_path, again, optimizer_again)

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "optimizer.safetensors",
        "trained.safetensors",
    ]
    assert tensors.n_bytes == sum(12 * p.numel() + 4 for p in model.initial_state.parameters())
    for one, other in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    moved = model.initial_state.value
    found = optimizer_again.state[again.initial_state.value]
    assert torch.equal(found["exp_avg"], optimizer.state[moved]["exp_avg"])
    assert found["step"].item() == 1


@pytest.mark.parametrize("private", [True, False])
def test_what_is_taken_shares_storage_only_where_it_may(model, optimizer, private):
    tensors = TrainedTensors().take(model, optimizer, private=private)
    before = tensors.weights["initial_state.value"].clone()

    with torch.no_grad():
        model.initial_state.value.add_(1)

    assert torch.equal(tensors.weights["initial_state.value"], before) == private


def test_what_is_not_finite_is_not_taken(model, optimizer):
    with torch.no_grad():
        model.initial_state.value[0, 0, 0] = float("nan")

    with pytest.raises(CheckpointError, match=r"be finite, but 'initial_state.value' is not"):
        TrainedTensors().take(model, optimizer, private=False)


def test_a_checkpoint_of_all_weights_is_refused(model, optimizer, tmp_path):
    with pytest.raises(CheckpointError, match="is of a run that trains all of them"):
        TrainedTensors().restore(tmp_path, model, optimizer)


def test_a_checkpoint_of_another_shape_is_refused(model, optimizer, tmp_path):
    written(model, optimizer, tmp_path)
    base = random_rwkv4(1, 16, 64)
    other = StateTunedRWKV4(base.config)

    with pytest.raises(CheckpointError, match="must hold what this run trains"):
        TrainedTensors().restore(tmp_path, other, build_optimizer(other, tiny_config().optimizer))

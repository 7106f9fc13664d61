"""What is saved while training goes on is what was when the save began."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from receptance.training import build_optimizer
from receptance.training.checkpoints import Checkpoints, Progress, WholeTensors
from receptance.training.checkpoints.manifest import verify
from tests.random_models import random_rwkv4
from tests.training.tiny_run import tiny_config

N_SAVES = 30


def test_weights_that_change_while_they_are_saved_are_saved_as_they_were(tmp_path: Path, say):
    model = random_rwkv4(2, 64, 300)
    optimizer = build_optimizer(model, tiny_config().optimizer)
    storage = WholeTensors(model.config, None)
    checkpoints = Checkpoints(tmp_path, storage, asynchronous=True)
    checkpoints.prepare(1)
    carried = {"shift": torch.randn(2, 4, 64)}

    def tensors() -> dict[str, torch.Tensor]:
        taken = storage.take(model, optimizer, private=True)
        return taken.weights | taken.moments | {name: t.clone() for name, t in carried.items()}

    n_same = n_changes = 0
    for step in range(1, N_SAVES + 1):
        expected = tensors()
        checkpoints.save(model, optimizer, Progress(step, 0, 0, 0.0), carried=carried)
        while not checkpoints.take_reports():
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
            carried["shift"].normal_()
            n_changes += 1
        path = tmp_path / f"step-{step:08d}"
        verify(path)
        found = load_file(path / "model" / "model.safetensors")
        found |= load_file(path / "optimizer.safetensors")
        found |= load_file(path / "rank-00000" / "state.safetensors")
        same = found.keys() == expected.keys()
        n_same += same and all(torch.equal(found[name], expected[name]) for name in found)

    say(f"{N_SAVES} saves while {n_changes} steps were taken: {n_same} saved what was")
    assert n_same == N_SAVES
    assert n_changes > N_SAVES

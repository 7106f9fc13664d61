"""What a run trains of a model whose weights are frozen, in its checkpoints.

trained.safetensors     the parameters that take gradients, by their names
optimizer.safetensors   their moments

The frozen weights are not there: a run finds them again where it began.
"""

from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW

from receptance.errors import CheckpointError
from receptance.tensor_file import tensor_file_parts
from receptance.training.checkpoints.commit import StagedFolder
from receptance.training.checkpoints.whole_tensors import (
    OPTIMIZER_FILE,
    Tensors,
    form,
    moments_of,
    read_tensors,
    restore_moments,
)

TRAINED_FILE = "trained.safetensors"


class TrainedTensors:
    """One rank writes the few tensors that are trained; every rank reads them."""

    def __init__(self, *, writes: bool = True) -> None:
        """Keep whether this is the rank that writes."""
        self.writes = writes

    def take(self, model: nn.Module, optimizer: AdamW, *, private: bool) -> Tensors:
        """Return the trained parameters and their moments; see `TensorStorage`."""
        if not self.writes:
            return Tensors({}, {})
        trained = {
            name: each.detach() for name, each in model.named_parameters() if each.requires_grad
        }
        for name, each in trained.items():
            if not bool(each.isfinite().all()):
                raise CheckpointError(f"a checkpoint must be finite, but {name!r} is not")
        moments = moments_of(model, optimizer)
        if private:
            trained = {name: each.to("cpu", copy=True) for name, each in trained.items()}
            moments = {name: each.to("cpu", copy=True) for name, each in moments.items()}
        return Tensors(trained, moments)

    def write(self, tensors: Tensors, stage: StagedFolder) -> None:
        """Write both files; see `TensorStorage`."""
        if not self.writes:
            return
        stage.write(TRAINED_FILE, tensor_file_parts(tensors.weights))
        stage.write(OPTIMIZER_FILE, tensor_file_parts(tensors.moments))

    @torch.no_grad()
    def restore(self, path: Path, model: nn.Module, optimizer: AdamW) -> None:
        """Read both files into a model that has its frozen weights; see `TensorStorage`."""
        if not (path / TRAINED_FILE).exists():
            raise CheckpointError(
                f"{str(path)!r} must hold {TRAINED_FILE!r}, since this run has frozen weights, but "
                "it is of a run that trains all of them; begin with its model as "
                "`training.init_from`"
            )
        stored = read_tensors(path / TRAINED_FILE)
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        found = {name: form(each) for name, each in stored.items()}
        expected = {name: form(each) for name, each in trained.items()}
        if found != expected:
            raise CheckpointError(
                f"{str(path / TRAINED_FILE)!r} must hold what this run trains, {expected}, but it "
                f"holds {found}"
            )
        for name, each in trained.items():
            each.copy_(stored[name])
        restore_moments(path / OPTIMIZER_FILE, model, optimizer)

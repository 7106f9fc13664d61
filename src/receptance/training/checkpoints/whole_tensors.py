"""The weights and moments of a run in its checkpoints, where one rank has all of them.

model/                  a model folder, which every verb opens
optimizer.safetensors   the moments, by the parameter's name
"""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import AdamW

from receptance.checkpoint import WEIGHTS_FILE, check_weights, load_checkpoint, model_files
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config
from receptance.tensor_file import tensor_file_parts
from receptance.tokenizer import Tokenizer
from receptance.training.checkpoints.commit import StagedFolder

MODEL_FOLDER = "model"
OPTIMIZER_FILE = "optimizer.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


class Tensors(NamedTuple):
    """What an optimizer step changes."""

    weights: dict[str, Tensor]
    """By the parameter's name."""
    moments: dict[str, Tensor]
    """By the parameter's name and that of the optimizer's entry: "head.weight.exp_avg"."""

    @property
    def n_bytes(self) -> int:
        """How many bytes they have together."""
        return sum(each.nbytes for group in self for each in group.values())


@runtime_checkable
class TensorStorage(Protocol):
    """How the weights and moments of a run get into its checkpoints, and out of them."""

    def take(self, model: nn.Module, optimizer: AdamW, *, private: bool) -> Tensors:
        """Return what this rank is to write.

        Args:
            model: The model.
            optimizer: Its optimizer.
            private: Whether later steps must not change what is returned.

        Raises:
            CheckpointError: If no checkpoint may hold it: a weight is not finite.
        """
        ...

    def write(self, tensors: Tensors, stage: StagedFolder) -> None:
        """Write them into a checkpoint.

        Raises:
            OSError: If they cannot be written.
        """
        ...

    def restore(self, path: Path, model: nn.Module, optimizer: AdamW) -> None:
        """Set a model and its optimizer to what a checkpoint holds.

        Raises:
            CheckpointError: If it holds something else.
        """
        ...


class WholeTensors:
    """One rank writes all, each file from beginning to end; every rank reads all."""

    def __init__(
        self, config: RWKV4Config, tokenizer: Tokenizer | None, *, writes: bool = True
    ) -> None:
        """Keep what the model folder says besides the weights.

        Args:
            config: The shape of the model.
            tokenizer: What its tokens are of.
            writes: Whether this is the rank that writes.
        """
        self.config = config
        self.tokenizer = tokenizer
        self.writes = writes

    def take(self, model: nn.Module, optimizer: AdamW, *, private: bool) -> Tensors:
        """Return the weights and moments; see `TensorStorage`."""
        if not self.writes:
            return Tensors({}, {})
        weights = {name: weight.detach() for name, weight in model.state_dict().items()}
        check_weights(Path(MODEL_FOLDER, WEIGHTS_FILE), model, weights)
        moments = moments_of(model, optimizer)
        if private:
            weights = {name: each.to("cpu", copy=True) for name, each in weights.items()}
            moments = {name: each.to("cpu", copy=True) for name, each in moments.items()}
        return Tensors(weights, moments)

    def write(self, tensors: Tensors, stage: StagedFolder) -> None:
        """Write a model folder and the moments; see `TensorStorage`."""
        if not self.writes:
            return
        for name, parts in model_files(self.config, tensors.weights).items():
            stage.write(f"{MODEL_FOLDER}/{name}", parts)
        self.write_tokenizer(stage)
        stage.write(OPTIMIZER_FILE, tensor_file_parts(tensors.moments))

    def write_tokenizer(self, stage: StagedFolder) -> None:
        """Write the tokenizer's file into the model folder, if there is a tokenizer."""
        if self.tokenizer is None:
            return
        folder = stage.path / MODEL_FOLDER
        before = {file.name for file in folder.iterdir()}
        self.tokenizer.save(folder)
        for name in sorted({file.name for file in folder.iterdir()} - before):
            stage.adopt(f"{MODEL_FOLDER}/{name}")

    def restore(self, path: Path, model: nn.Module, optimizer: AdamW) -> None:
        """Read the model folder and the moments; see `TensorStorage`."""
        loaded = load_checkpoint(path / MODEL_FOLDER, dtype="float32").model
        if loaded.config != self.config:
            raise CheckpointError(
                f"{str(path)!r} must hold a model of this run, {self.config}, but it holds "
                f"{loaded.config}"
            )
        model.load_state_dict(loaded.state_dict())
        restore_moments(path / OPTIMIZER_FILE, model, optimizer)


def moments_of(model: nn.Module, optimizer: AdamW) -> dict[str, Tensor]:
    """Return the entries of what is trained, zeros where no step was taken; the counts last."""
    # A count has 4 bytes, after which nothing would lie at a multiple of 64.
    moments: dict[str, Tensor] = {}
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    for name, parameter in trained:
        state = optimizer.state.get(parameter, {})
        for moment in MOMENTS:
            moments[f"{name}.{moment}"] = state.get(moment, torch.zeros_like(parameter)).detach()
    for name, parameter in trained:
        step = optimizer.state.get(parameter, {}).get("step", torch.zeros(()))
        moments[f"{name}.step"] = step
    return moments


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Raises:
        CheckpointError: If it is no safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} must be a safetensors file: {error}") from error


def restore_moments(path: Path, model: nn.Module, optimizer: AdamW) -> None:
    """Set an optimizer to the entries that `moments_of` returned.

    Raises:
        CheckpointError: If the file holds something else.
    """
    moments = read_tensors(path)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state: dict[str, Tensor] = {}
        for key in ("step", *MOMENTS):
            expected = torch.zeros(()) if key == "step" else parameter
            value = moments.get(f"{name}.{key}")
            if value is None or form(value) != form(expected):
                raise CheckpointError(
                    f"{str(path)!r} must hold '{name}.{key}' as {form(expected)}, but it has "
                    f"{'none' if value is None else form(value)}"
                )
            # A copy: the file may be deleted, and its blocks are to be free then. The count too is
            # where the parameter is: the fused step reads it there.
            state[key] = value.to(parameter.device, copy=True)
        optimizer.state[parameter] = state


def form(tensor: Tensor) -> str:
    """Return the dtype and the shape of a tensor, for a message."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"

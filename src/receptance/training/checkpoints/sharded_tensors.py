"""The weights and moments of a run in its checkpoints, where each rank has a part of them.

model/          a model folder whose weights are in shard-00001-…, one file for each rank
optimizer/      the moments, by the parameter's name, in files alike

The files are those of PyTorch's `HuggingFaceStorageWriter`: safetensors that say which part of each
tensor they hold. So any number of ranks reads what any other wrote, and each only its parts.
"""

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from receptance.checkpoint import CONFIG_FILE, WEIGHTS_FILE, model_files
from receptance.errors import CheckpointError
from receptance.training.checkpoints.commit import StagedFolder
from receptance.training.checkpoints.whole_tensors import (
    MODEL_FOLDER,
    MOMENTS,
    OPTIMIZER_FILE,
    Tensors,
    WholeTensors,
)
from receptance.training.processes import Ranks, local_part

MOMENTS_FOLDER = "optimizer"


class ShardedTensors:
    """Each rank writes its parts of a sharded model; any other model is left to `WholeTensors`.

    Whatever wrote a checkpoint, whole or in the parts of some number of ranks, this reads it into
    the model that is there.
    """

    def __init__(self, whole: WholeTensors, ranks: Ranks) -> None:
        """Keep what writes the models that are not sharded.

        Args:
            whole: For these; it also knows what the model folder says besides the weights.
            ranks: The processes of the run.
        """
        self._whole = whole
        self._ranks = ranks
        # Memory that the copies for asynchronous saving are made in, the same each time.
        on_gpu = ranks.device.type == "cuda"
        self._stager = DefaultStager(StagingOptions(on_gpu, False, False, on_gpu))

    def take(self, model: nn.Module, optimizer: AdamW, *, private: bool) -> Tensors:
        """Return the weights and moments; of a sharded model the parts of this rank.

        Every rank calls it. See `TensorStorage`.
        """
        if not isinstance(model, FSDPModule):
            return self._whole.take(model, optimizer, private=private)
        model.reshard()
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        bad = [
            name for name, each in weights.items() if not bool(local_part(each).isfinite().all())
        ]
        if found := [name for names in self._ranks.gather_objects(bad) for name in names]:
            raise CheckpointError(f"a checkpoint must be finite, but {found[0]!r} is not")
        moments = _moments(model, optimizer)
        if private:
            staged = self._stager.stage({"weights": weights, "moments": moments})
            weights, moments = (cast("dict", staged)[group] for group in ("weights", "moments"))
        return Tensors(weights, moments)

    def write(self, tensors: Tensors, stage: StagedFolder) -> None:
        """Write the parts of this rank; every rank calls it. See `TensorStorage`."""
        if not any(isinstance(each, DTensor) for each in tensors.weights.values()):
            self._whole.write(tensors, stage)
            return
        # What all do together comes first: a rank that fails in it lets the others know.
        _write_parts(tensors.weights, MODEL_FOLDER, stage, self._ranks.saving_group)
        _write_parts(tensors.moments, MOMENTS_FOLDER, stage, self._ranks.saving_group)
        if self._ranks.is_first:
            stage.write(f"{MODEL_FOLDER}/{CONFIG_FILE}", self._config_file())
            self._whole.write_tokenizer(stage)

    def restore(self, path: Path, model: nn.Module, optimizer: AdamW) -> None:
        """Read the parts that this rank has. See `TensorStorage`."""
        is_whole = (path / MODEL_FOLDER / WEIGHTS_FILE).exists()
        if is_whole and not isinstance(model, FSDPModule):
            self._whole.restore(path, model, optimizer)
            return
        config_path = path / MODEL_FOLDER / CONFIG_FILE
        found, expected = json.loads(config_path.read_bytes()), b"".join(self._config_file())
        if found != json.loads(expected):
            raise CheckpointError(
                f"{str(path)!r} must hold a model of this run, {self._whole.config}, but it holds "
                f"{found}"
            )
        _read_parts(path / MODEL_FOLDER, dict(model.named_parameters()))
        for parameter in model.parameters():
            moments = {name: torch.zeros_like(parameter) for name in MOMENTS}
            # The count too is where the parameter is: the fused step reads it there.
            step = torch.zeros((), device=parameter.device)
            optimizer.state[parameter] = {"step": step, **moments}
        has_file = (path / OPTIMIZER_FILE).exists()
        _read_parts(path if has_file else path / MOMENTS_FOLDER, _moments(model, optimizer))

    def _config_file(self) -> list[bytes]:
        return [bytes(part) for part in model_files(self._whole.config, {})[CONFIG_FILE]]


class _StagedStream(io.RawIOBase):
    """What is written to it becomes a file of a staged folder when it is closed."""

    def __init__(self, stage: StagedFolder, name: str) -> None:
        self._stage = stage
        self._name = name
        self._parts: list[bytes] = []

    def tell(self) -> int:
        return sum(map(len, self._parts))

    def write(self, part: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._parts.append(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._stage.write(self._name, self._parts)
        super().close()


class _StagedFiles(FileSystem):
    """Files that PyTorch writes, hashed and on the disk as a checkpoint needs them."""

    def __init__(self, stage: StagedFolder) -> None:
        self._stage = stage

    @contextmanager
    def create_stream(self, path: Path | str, mode: str) -> Iterator[io.IOBase]:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert mode == "wb"  # nothing is read while a checkpoint is written
        stream = _StagedStream(self._stage, Path(path).relative_to(self._stage.path).as_posix())
        yield stream
        stream.close()


def _write_parts(
    tensors: Mapping[str, Tensor], folder: str, stage: StagedFolder, group: dist.ProcessGroup | None
) -> None:
    """Write a folder of safetensors files, this rank one of them."""
    writer = HuggingFaceStorageWriter(str(stage.path / folder), save_distributed=True)
    writer.fs = _StagedFiles(stage)
    writer.sync_files = False  # the stage does
    with _os_errors():
        save(dict(tensors), storage_writer=writer, process_group=group)


def _read_parts(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors`, or the parts of them that are here, in place.

    Raises:
        CheckpointError: If one is missing, or is of another shape or dtype.
    """
    try:
        reader = HuggingFaceStorageReader(str(folder))
        stored = reader.read_metadata().state_dict_metadata
        for name, tensor in tensors.items():
            entry = stored.get(name)
            found = _form(entry) if isinstance(entry, TensorStorageMetadata) else "none"
            expected = _form(tensor)
            if found != expected:
                raise CheckpointError(
                    f"{str(folder)!r} must hold {name!r} as {expected}, but it has {found}"
                )
        values = {name: tensor.detach() for name, tensor in tensors.items()}
        with _os_errors(), warnings.catch_warnings():
            # Each rank reads for itself, which is meant here.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(values, storage_reader=reader, no_dist=True)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(folder)!r} must hold safetensors files: {error}") from error


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise what failed on some rank as the error that it was there."""
    try:
        yield
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, cause.filename) from error
        raise OSError(f"a rank failed: {cause!r}") from error


def _moments(model: nn.Module, optimizer: AdamW) -> dict[str, Tensor]:
    """Return the optimizer's entries by the parameter's name, zeros where it has taken no step."""
    moments: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        for moment in MOMENTS:
            moments[f"{name}.{moment}"] = state.get(moment, torch.zeros_like(parameter)).detach()
        moments[f"{name}.step"] = state.get("step", torch.zeros(()))
    return moments


def _form(tensor: Tensor | TensorStorageMetadata) -> str:
    """Return the dtype and the shape of the whole tensor."""
    is_tensor = isinstance(tensor, Tensor)
    dtype = tensor.dtype if is_tensor else tensor.properties.dtype
    shape = tensor.shape if is_tensor else tensor.size
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"

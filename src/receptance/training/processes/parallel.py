"""One model on several ranks: whole on each (DDP), or each with a part of it (FSDP2).

Everything here is put around a plain model from outside; the model knows nothing of it. The order
is: a model without values on the meta device; what changes its layers (recomputation, compilation);
`distribute`; an optimizer; values; the module that computes the loss; `replicate`.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from receptance.errors import ConfigError
from receptance.models import RWKV4, build
from receptance.training.processes.ranks import Ranks

# PyTorch adds up the squares of a tensor in float32: over the hundred million of a large matrix a
# norm is 1 % too small. Those of pieces are right to 1e-6, and no piece is shared among threads.
# A GPU adds them up as a tree, of which the pieces would make a hundred thousand small tasks.
NORM_PIECE = 1 << 15

Parallel = Literal["none", "ddp", "fsdp2"]
"""How several ranks share the work: not at all, by the rows of a batch with the whole model on
each, or by the rows with a part of the model on each."""


def distribute(model: RWKV4, parallel: Parallel, ranks: Ranks) -> None:
    """Give a model on the meta device its memory on this rank; its values are still to come.

    With "fsdp2" a rank has a part of every parameter, of its gradient and of its moments, all in
    float32. The parts of a layer are put together for its forward and again for its backward, and
    its gradients are summed and divided when the layer's backward is done. What is exchanged is
    float32: vectors such as the decays would suffer from less, and matrices are rounded by
    autocast after the exchange, so that the numbers are those of one rank.

    Args:
        model: On the meta device, changed in place.
        parallel: How the ranks share it. For one rank all is the same.
        ranks: Who takes part.

    Raises:
        ConfigError: If there are several ranks, and "none" is to share the work among them.
    """
    if parallel == "none" and not ranks.is_alone:
        raise ConfigError(
            f"`training.parallel` must be 'ddp' or 'fsdp2' for {ranks.world_size} processes, got "
            "'none'"
        )
    if is_sharded(parallel, ranks):
        assert ranks.group is not None
        # What it warns of, to change in place what a layer returned, is done nowhere.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        mesh = DeviceMesh.from_group(ranks.group, ranks.device.type)

        def placement(parameter: nn.Parameter) -> Shard | None:
            return _placement(parameter, ranks.world_size)

        for block in model.blocks:
            fully_shard(block, mesh=mesh, shard_placement_fn=placement)
        # The embedding, the last norm and the head: the loss reads the head's weight after the
        # model's forward, so they stay together until the backward is done.
        fully_shard(model, mesh=mesh, shard_placement_fn=placement, reshard_after_forward=False)
        register_fsdp_forward_method(model, "features")
    model.to_empty(device=ranks.device)


def is_sharded(parallel: Parallel, ranks: Ranks) -> bool:
    """Whether each rank holds only a part of the model."""
    return parallel == "fsdp2" and not ranks.is_alone


def compile_layers(model: RWKV4) -> None:
    """Compile each layer by itself, as a model has to be that will be sharded.

    What FSDP2 does before and after a layer cannot be compiled, so no graph holds two layers.

    Args:
        model: Changed in place: its blocks' `forward`. Not yet distributed.
    """
    for block in model.blocks:
        block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False)


def replicate(objective: nn.Module, parallel: Parallel, ranks: Ranks) -> nn.Module:
    """Return what computes the loss on the rows of this rank, and averages the gradients.

    Args:
        objective: The module with a model that `distribute` prepared and that has its values.
        parallel: As `distribute` was given it.
        ranks: Who takes part.
    """
    if parallel != "ddp" or ranks.group is None:
        return objective
    return DistributedDataParallel(
        objective,
        process_group=ranks.group,
        gradient_as_bucket_view=True,
    )


def gradient_sync(objective: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
    """Return a context for one forward and backward, which leaves the exchange to a later one.

    With DDP the gradients of a step's micro-batches are added up on each rank and exchanged with
    the last. With FSDP2 they are always exchanged: a sum of whole gradients would take on each
    rank the memory of the whole model, which FSDP2 is there to avoid.

    Args:
        objective: From `replicate`.
        enabled: Whether this is the last micro-batch of the step.
    """
    if isinstance(objective, DistributedDataParallel) and not enabled:
        return objective.no_sync()
    return nullcontext()


def init_weights(model: RWKV4, seed: int, ranks: Ranks) -> None:
    """Give a model its first values: by a seed the same, bit for bit, however it is distributed.

    A sharded model, and one on a GPU, is initialised on the CPU of the first rank, which for this
    holds the whole model once in its memory, and then sent to all, one tensor after the other.

    Args:
        model: From `distribute`.
        seed: Of the values.
        ranks: Who takes part.
    """
    torch.manual_seed(seed)
    if ranks.device.type == "cpu" and not isinstance(model, FSDPModule):
        model.init_weights()
        return
    whole: dict[str, Tensor] = {}
    if ranks.is_first:
        with torch.device("cpu"):
            twin = build(model.config).to(model.ln_out.weight.dtype)
        twin.init_weights()
        whole = dict(twin.state_dict())
    # Others wait here, patiently, and not in the exchange below.
    ranks.barrier()
    set_weights(model, whole, ranks)


def set_weights(model: RWKV4, whole: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Set a model from `distribute` to whole weights, those that the first rank gives.

    Args:
        model: Whole or sharded.
        whole: By the parameter's name, on the CPU; only the first rank's are looked at.
        ranks: Who takes part.
    """
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=not ranks.is_alone)
    set_model_state_dict(model, dict(whole), options=options)


def whole_model(model: RWKV4, ranks: Ranks) -> RWKV4 | None:
    """Return the whole model in one piece on the first rank, and None on the others.

    For a sharded model this is a copy in the memory of that rank's CPU, which must have room for
    all of it in float32; every rank has to call this. Otherwise it is the model itself.
    """
    if not isinstance(model, FSDPModule):
        return model if ranks.is_first else None
    weights = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if not ranks.is_first:
        return None
    with torch.device("meta"):
        twin = build(model.config)
    twin.load_state_dict(weights, assign=True)
    return twin


@contextmanager
def evaluation(model: RWKV4) -> Iterator[RWKV4]:
    """Yield a model for forwards without gradients, in which every rank must take part alike.

    Within, dropout is off. A sharded model is put together layer by layer as in training, so each
    rank makes the same calls; afterwards its parameters are parts again, ready to be saved.
    """
    model.eval()
    try:
        yield model
    finally:
        model.train()
        if isinstance(model, FSDPModule):
            model.reshard()


class GradientNorms(NamedTuple):
    """How long a gradient is, in its two parts."""

    embedding: float
    rest: float

    @property
    def whole(self) -> float:
        """Of both; not finite if any number of the gradient is not."""
        return math.hypot(*self)


def gradient_norms(module: nn.Module, ranks: Ranks) -> GradientNorms:
    """Return the norms of the gradient, the same bits on every rank and for any threads.

    They are not finite if any number of their part, on any rank, is not.
    """
    parts: tuple[list[Tensor], list[Tensor]] = [], []
    for name, each in module.named_parameters():
        if each.grad is not None:
            parts[not name.endswith("emb.weight")].append(each.grad)
    # Both at once: to read one would wait for the device, and keep the other from being begun.
    # A part without gradients, as a frozen embedding, is a zero of the CPU.
    found = [_local_norm(part) for part in parts]
    device = max((each.device for each in found), key=lambda each: each.type != "cpu")
    norms: list[float] = torch.stack([each.to(device) for each in found]).tolist()
    if any(isinstance(each, DTensor) for part in parts for each in part):
        mean_squares = ranks.mean(*(norm**2 for norm in norms))
        norms = [math.sqrt(ranks.world_size * each) for each in mean_squares]
    # What is not sharded is the whole gradient, which every rank has.
    return GradientNorms(*norms)


def _local_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of this rank's part of some gradients, on their device."""
    parts = [local_part(each) for each in gradients]
    if all(each.is_cpu for each in parts):
        parts = [piece for each in parts for piece in each.reshape(-1).split(NORM_PIECE)]
    return torch.nn.utils.get_total_norm(parts)


def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds: all of it, unless it is sharded."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def _placement(parameter: nn.Parameter, world_size: int) -> Shard | None:
    """Return along which axis a parameter is cut: the first one longer than 1, where it can be.

    FSDP2 cuts the first axis; of a [1, 1, C] that would leave all to one rank. Other axes it cuts
    only into equal parts.
    """
    axis = next((axis for axis, size in enumerate(parameter.shape) if size > 1), 0)
    return Shard(axis) if axis and parameter.shape[axis] % world_size == 0 else None

"""What a forward and backward need of memory, found on tensors that have a shape and no memory.

What is traced is the code that runs, so that the figures follow it. They are of PyTorch's tensors:
what an op needs inside itself is not seen.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, UntypedStorage, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Module = TypeVar("Module", bound=nn.Module)


class MemoryTrace(NamedTuple):
    """Bytes of a forward and backward, the weights and their gradients left out."""

    kept_bytes: int
    """What is kept from the forward for the backward."""
    peak_bytes: int
    """The most that there was at any time."""


def trace_memory(build: Callable[[], Module], loss_of: Callable[[Module], Tensor]) -> MemoryTrace:
    """Return what the forward and backward of a loss need.

    Args:
        build: Makes a module. All its tensors are fake, so that neither their values nor memory or
            time for them are needed.
        loss_of: Computes a scalar loss of it.
    """
    live = _LiveStorages()
    kept: dict[int, UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other one gets its address
        return tensor

    with FakeTensorMode(), live:
        module = build()
        live.peak_bytes = live.live_bytes  # what was there only to build it is no matter
        with saved_tensors_hooks(note, lambda tensor: tensor):
            loss = loss_of(module)
        weights = [*module.parameters(), *module.buffers()]
        own = {each.untyped_storage()._cdata for each in weights}
        kept_bytes = sum(each.nbytes() for key, each in kept.items() if key not in own)
        kept.clear()
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        loss.backward()
        weight_bytes = sum(each.nbytes for each in weights)
    return MemoryTrace(kept_bytes, live.peak_bytes - weight_bytes)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


class _LiveStorages(TorchDispatchMode):
    """Counts the bytes of all tensors that ops made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._storages: dict[int, weakref.ref[UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **kwargs or {})
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: UntypedStorage) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages[key] = weakref.ref(storage, partial(self._forget, key, n_bytes))
        self.live_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _forget(self, key: int, n_bytes: int, _: object) -> None:
        del self._storages[key]
        self.live_bytes -= n_bytes

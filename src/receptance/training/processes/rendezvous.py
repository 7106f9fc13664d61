"""How the ranks of one start find each other, and not those of a start before.

`torchrun` keeps one store for all starts of a job (from PyTorch 2.4 on; pytorch issue 135712), in
which the addresses of ranks that have died are found first: after a restart the connections are
refused. So each start agrees on a name, under which it keeps what it stores.
"""

import time
import uuid
from datetime import timedelta

# PyTorch exports both, though it does not say so where a type checker looks.
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

_PAUSE_S = 0.01


def fresh_store(timeout_s: float) -> tuple[Store, int, int]:
    """Return a store with nothing in it, the rank of this process, and how many there are.

    Args:
        timeout_s: How long to wait for the others.

    Raises:
        TimeoutError: If they do not come in time.
    """
    timeout = timedelta(seconds=timeout_s)
    store, rank, world_size = next(iter(rendezvous("env://", timeout=timeout)))
    store.set_timeout(timeout)
    name = _welcome(store, world_size, timeout_s) if rank == 0 else _be_welcome(store, rank)
    return PrefixStore(name, store), rank, world_size


def _welcome(store: Store, world_size: int, timeout_s: float) -> str:
    """Tell every other rank of this start its name, and return it.

    What a rank says of itself may have been said by one that has died; only one that lives answers.
    """
    name = uuid.uuid4().hex
    until = time.monotonic() + timeout_s
    missing = set(range(1, world_size))
    while missing:
        for rank in sorted(missing):
            if not store.check([f"here/{rank}"]):
                continue
            visitor = store.get(f"here/{rank}").decode()
            store.set(f"welcome/{visitor}", name)
            if store.check([f"thanks/{name}/{visitor}"]):
                missing.remove(rank)
        if time.monotonic() > until:
            raise TimeoutError(
                f"{world_size} ranks must start within {timeout_s:g} s, but {sorted(missing)} did "
                "not; see what their machines say"
            )
        time.sleep(_PAUSE_S)
    return name


def _be_welcome(store: Store, rank: int) -> str:
    """Return the name that the first rank of this start gives it."""
    visitor = uuid.uuid4().hex
    store.set(f"here/{rank}", visitor)
    name = store.get(f"welcome/{visitor}").decode()
    store.set(f"thanks/{name}/{visitor}", "")
    return name

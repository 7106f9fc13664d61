"""The ranks of one start find each other, whatever others have left in their store."""

import threading

import pytest
from torch.distributed import (
    DistStoreError,
    HashStore,  # pyright: ignore[reportPrivateImportUsage]
)

from receptance.training.processes import rendezvous


@pytest.fixture
def left():
    """Return the store that stays."""
    return HashStore()


@pytest.fixture
def starts(left, monkeypatch):
    """Return what lets so many ranks start, in threads, with one store that stays."""

    def start(ranks, world_size, timeout_s=20.0):
        found = {}

        def run(rank):
            place = threading.current_thread().name
            assert place == str(rank)
            try:
                store, *_ = rendezvous.fresh_store(timeout_s)
                store.set(f"address/{rank}", f"of {rank}")
                found[rank] = [store.get(f"address/{other}") for other in range(world_size)]
            except (TimeoutError, DistStoreError) as error:
                found[rank] = error

        def known(url, timeout):
            assert (url, timeout.total_seconds()) == ("env://", timeout_s)
            yield left, int(threading.current_thread().name), world_size

        monkeypatch.setattr(rendezvous, "rendezvous", known)
        threads = [
            threading.Thread(target=run, args=(rank,), name=str(rank), daemon=True)
            for rank in ranks
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found

    return start


def test_every_start_has_a_name_of_its_own(starts):
    for _ in range(5):
        assert starts(range(4), 4) == {
            rank: [b"of 0", b"of 1", b"of 2", b"of 3"] for rank in range(4)
        }


def test_a_rank_that_died_before_it_was_welcome_is_not_waited_for(starts, left):
    left.set("here/1", "one that died")
    left.set("here/2", "another")
    left.set("welcome/another", "of a start before")
    left.set("thanks/of a start before/another", "")
    assert starts(range(3), 3) == {rank: [b"of 0", b"of 1", b"of 2"] for rank in range(3)}


def test_a_rank_that_does_not_come_is_named(starts):
    found = starts([0, 2], 3, timeout_s=1.0)
    assert str(found[0]) == (
        "3 ranks must start within 1 s, but [1] did not; see what their machines say"
    )

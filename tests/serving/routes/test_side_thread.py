"""What one key has done beside the event loop makes another wait for one thing at most."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from receptance.errors import RequestError
from receptance.serving.routes.side_thread import SideThread


@pytest.fixture
def thread() -> Iterator[SideThread]:
    thread = SideThread("side", max_waiting=3)
    yield thread
    thread.close()


def test_what_is_done_is_returned_or_raised_and_never_on_the_loops_own_thread(thread: SideThread):
    async def main() -> None:
        there = await thread.do("anna", threading.get_ident)
        assert there != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await thread.do("anna", lambda: 1 // 0)
        assert await thread.do("anna", threading.get_ident) == there

    asyncio.run(main())


def test_keys_take_turns_and_one_that_has_too_much_is_told_to_come_again(thread: SideThread):
    done: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        first = asyncio.ensure_future(thread.do("anna", lambda: gate.wait(10)))
        await asyncio.sleep(0)
        work = [thread.do("anna", lambda i=i: done.append(f"anna {i}")) for i in range(2)]
        tasks = [asyncio.ensure_future(each) for each in work]
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="may have 3") as refused:
            await thread.do("anna", list)
        assert (refused.value.status, refused.value.code) == (429, "queue_full")
        tasks.append(asyncio.ensure_future(thread.do("ben", lambda: done.append("ben"))))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *tasks)
        await thread.do("anna", list)

    asyncio.run(main())
    assert done == ["ben", "anna 0", "anna 1"]


def test_who_leaves_gives_up_its_turn(thread: SideThread):
    gate = threading.Event()

    async def main() -> None:
        first = asyncio.ensure_future(thread.do("anna", lambda: gate.wait(10)))
        second = asyncio.ensure_future(thread.do("anna", list))
        await asyncio.sleep(0)
        second.cancel()
        gate.set()
        await first
        assert await thread.do("anna", lambda: 7) == 7
        assert not thread._n_of
        assert not thread._turn_of

    asyncio.run(main())

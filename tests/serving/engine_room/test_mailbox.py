"""However much there is to say, the event loop is woken once."""

import asyncio
import threading
from functools import partial

from receptance.serving.engine_room.mailbox import Mailbox


def test_news_of_many_steps_are_one_wakeup_and_keep_their_order(monkeypatch):
    async def main():
        loop, read = asyncio.get_running_loop(), []
        wakeups = []
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda call: (wakeups.append(call), wake(call))
        )
        mailbox = Mailbox(loop, max_letters=100)
        for step in range(20):
            assert mailbox.post([partial(read.append, (step, each)) for each in range(3)])
        await asyncio.sleep(0)
        assert read == [(step, each) for step in range(20) for each in range(3)]
        assert len(wakeups) == 1
        mailbox.post([partial(read.append, "more")])
        await asyncio.sleep(0)
        assert read[-1] == "more"

    asyncio.run(main())


def test_who_writes_waits_while_too_much_lies_unread():
    async def main():
        read: list[int] = []
        mailbox = Mailbox(asyncio.get_running_loop(), max_letters=2)

        def write():
            for step in range(5):
                mailbox.post([partial(read.append, step)])

        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.05)  # the loop does not read meanwhile
        assert writer.is_alive()
        assert len(mailbox._letters) == 2
        while writer.is_alive() or len(read) < 5:
            await asyncio.sleep(0.001)
        assert read == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_a_loop_that_is_closed_reads_nothing():
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop, max_letters=1)
    loop.close()
    assert not mailbox.post([])
    assert not mailbox.post([])


def test_news_that_fail_do_not_keep_others_from_being_read():
    async def main():
        loop, read, failed = asyncio.get_running_loop(), [], []
        loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
        mailbox = Mailbox(loop, max_letters=5)
        mailbox.post([lambda: 1 // 0, partial(read.append, 1)])
        await asyncio.sleep(0)
        assert read == [1]
        assert [type(each) for each in failed] == [ZeroDivisionError]

    asyncio.run(main())

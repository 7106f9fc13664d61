"""What a request goes on from, and what is kept after it."""

import asyncio
import threading
from typing import cast

import pytest

from receptance.errors import RequestError
from receptance.inference import LanguageModel
from receptance.serving.app import ServerApp
from receptance.serving.protocol import CompletionBody
from receptance.serving.routes.keeping import Keeping, Start, kept_aside, reserved_aside, start_of
from receptance.serving.state_store import Kept, Place, StateStore


def test_what_begins_anew_may_be_remembered_and_what_goes_on_may_not(
    app: ServerApp, lm: LanguageModel
):
    assert Start().cache_scope("me") == "me"
    place = app.service.states.reserve("me")
    kept = place.keep("", 7, lm.prefill("a text"))
    start = asyncio.run(start_of(app.service, "me", kept.id))
    assert start.tokens == 7
    assert start.cache_scope("me") is None
    with pytest.raises(RequestError, match="there is no state"):
        asyncio.run(start_of(app.service, "you", kept.id))
    app.service.states.remove("me", kept.id)


def test_a_state_has_seen_what_came_before_the_prompt_and_the_answer(
    app: ServerApp, lm: LanguageModel
):
    async def told(*, is_kept: bool) -> dict[str, dict[str, object]]:
        body = CompletionBody(model="tiny", save_state=is_kept)
        keeping = await Keeping.begin(app.service, body, "me", Start())
        answer = lm.generate("four", max_tokens=3, seed=1, logit_bias={0: -100.0})
        try:
            return await keeping.told(answer)
        finally:
            keeping.leave()

    assert asyncio.run(told(is_kept=False)) == {}
    state = asyncio.run(told(is_kept=True))["state"]
    assert state["tokens"] == 7
    app.service.states.remove("me", str(state["id"]))


def test_a_state_whose_waiter_is_gone_is_not_kept(app: ServerApp, lm: LanguageModel):
    store, state = app.service.states, lm.prefill("a text")
    is_kept, may_end, is_left = threading.Event(), threading.Event(), threading.Event()

    async def leave() -> None:
        place = store.reserve("who left")
        abandon = place.abandon

        def keep() -> Kept:
            kept = place.keep("", 1, state)
            is_kept.set()
            assert may_end.wait(10)
            return kept

        def abandon_and_tell() -> None:
            abandon()
            is_left.set()

        place.abandon = abandon_and_tell
        waiter = asyncio.ensure_future(kept_aside(place, keep))
        assert await asyncio.to_thread(is_kept.wait, 10)
        assert len(store.of_owner("who left")) == 1
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        may_end.set()
        assert await asyncio.to_thread(is_left.wait, 10)

    asyncio.run(leave())
    assert store.of_owner("who left") == []


def test_a_place_whose_waiter_is_gone_is_free_again(app: ServerApp):
    store = app.service.states
    is_asked, may_end = threading.Event(), threading.Event()

    class SlowStore:
        def reserve(self, owner: str) -> Place:
            is_asked.set()
            assert may_end.wait(10)
            return store.reserve(owner)

    async def leave() -> None:
        waiter = asyncio.ensure_future(reserved_aside(cast(StateStore, SlowStore()), "who left"))
        assert await asyncio.to_thread(is_asked.wait, 10)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        may_end.set()
        while "who left" in store._promised or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    assert not [each for each in store._places if each.owner == "who left"]

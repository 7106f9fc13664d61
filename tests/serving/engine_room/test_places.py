"""Whatever way a job goes, its places come back, once."""

import asyncio

import pytest

from receptance.errors import RequestError
from receptance.serving import Settings
from receptance.serving.engine_room.admission import Admission
from receptance.serving.engine_room.allowance import Allowance
from receptance.serving.engine_room.places import Places
from receptance.serving.engine_room.ticket import Ticket

SETTINGS = Settings(max_sequences=2, max_waiting=2)


def places() -> tuple[Places, Admission, Allowance]:
    admission, allowance = Admission(SETTINGS), Allowance(60)
    return Places(admission, allowance, lambda: 0.0), admission, allowance


def ticket() -> Ticket:
    return Ticket(2, SETTINGS, forget=lambda *_: None)


def test_a_job_has_its_places_from_the_promise_until_it_leaves():
    async def main():
        here, admission, _ = places()
        taken = ticket()
        here.promise("anna", 2)
        assert (admission.n_open, admission.n_waiting_of("anna"), len(here)) == (2, 2, 0)
        here.take(taken, "anna", 2, [])
        assert here.is_waiting(taken)
        here.begin(taken)
        assert not here.is_waiting(taken)
        assert (admission.n_open, admission.n_waiting_of("anna"), len(here)) == (2, 0, 1)
        here.finish_text(taken)
        assert admission.n_open == 1
        assert here.tickets == [taken]
        here.leave(taken, 5)
        assert (admission.n_open, len(here)) == (0, 0)
        await here.until_empty()

    asyncio.run(main())


def test_a_promise_that_is_withdrawn_and_a_job_that_never_began_give_all_back():
    async def main():
        here, admission, _ = places()
        here.promise("anna", 2)
        here.withdraw("anna", 2)
        here.promise("ben", 1)
        taken = ticket()
        here.take(taken, "ben", 1, [])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(here.until_empty(), 0.01)
        here.leave(taken, 0)
        await here.until_empty()
        assert admission.n_open == admission.n_waiting_of("anna") == 0
        assert admission.n_waiting_of("ben") == 0

    asyncio.run(main())


def test_a_job_that_leaves_pays_for_its_tokens_and_silences_its_alarms():
    async def main():
        here, _, allowance = places()
        rang: list[str] = []
        alarm = asyncio.get_running_loop().call_later(0.01, rang.append, "late")
        taken = ticket()
        here.promise("anna", 1)
        here.take(taken, "anna", 1, [alarm])
        here.leave(taken, 60)
        with pytest.raises(RequestError, match="60 tokens a minute"):
            allowance.require("anna", 0.0)
        await asyncio.sleep(0.02)
        assert not rang

    asyncio.run(main())

"""The door to the engine: who gets in, who waits, who is told to come again, and when it ends."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from operator import index
from typing import SupportsIndex, TypeVar

from receptance.errors import ReceptanceError, RequestError
from receptance.inference import Engine, LanguageModel, PrefixCache, Request
from receptance.serving.engine_room.admission import Admission
from receptance.serving.engine_room.allowance import Allowance
from receptance.serving.engine_room.deadlines import queue_timeout, request_timeout
from receptance.serving.engine_room.engine_thread import EngineThread
from receptance.serving.engine_room.job import Job
from receptance.serving.engine_room.line import Family
from receptance.serving.engine_room.mailbox import Mailbox
from receptance.serving.engine_room.memory import open_folder, require_memory
from receptance.serving.engine_room.places import Places
from receptance.serving.engine_room.series import Series
from receptance.serving.engine_room.ticket import Ticket
from receptance.serving.metrics import Metrics
from receptance.serving.off_loop import SHORT, off_loop
from receptance.serving.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LAST_WRITES_SECONDS = 10.0  # for what is remembered, and worth no longer wait
_LAST_STEP_SECONDS = 10.0  # more than a step takes
_PASSING = 0.5  # of the time that a job may wait; in the rest it must come to its places
_SHOWN = 60  # digits of a number that is no token
_MAX_LETTERS = 256  # steps that the engine may be ahead of the event loop


class EngineRoom:
    """An engine on its own thread, for handlers on one event loop.

    A place is promised before anything is done for a request, so one that finds none is told at
    once. All methods belong to the event loop on which `start` was called.
    """

    def __init__(self, lm: LanguageModel, settings: Settings, metrics: Metrics) -> None:
        """Take the memory for all texts that may run at once.

        Args:
            lm: The model, with a tokenizer.
            settings: All limits.
            metrics: What is counted.

        Raises:
            TokenizerError: If the model has no tokenizer.
            ConfigError: If there is not enough memory, or no `state_cache_folder` to write in.
        """
        require_memory(lm, settings)
        self._lm = lm
        self._tokenizer = lm.tokenizer
        self._settings = settings
        self._metrics = metrics
        self._cache = PrefixCache(settings.state_cache_bytes, open_folder(lm, settings))
        self._has_engine = False
        self._thread = EngineThread(
            self._make_engine,
            n_slots=settings.max_sequences,
            passing_seconds=settings.queue_seconds * _PASSING,
            restarts_per_hour=settings.max_engine_restarts_per_hour,
            metrics=metrics,
            report=lambda news: self._mailbox.post(news),
            on_begin=lambda ticket: self._places.begin(ticket),
            on_text_end=lambda ticket: self._places.finish_text(ticket),
            on_end=self._on_end,
            on_dead=self._on_dead,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._admission = Admission(settings)
        self._allowance = Allowance(settings.tokens_per_minute_per_key)
        self._places = Places(self._admission, self._allowance, self._now)
        self._series: dict[Ticket, Series] = {}
        self._is_dead = asyncio.Event()
        self._is_retired = False
        self._is_draining = False
        self._is_closed = False
        metrics.watch(
            running=lambda: self.n_running,
            waiting=lambda: self.n_waiting,
            cache_bytes=lambda: self._cache.n_bytes,
            folder_bytes=lambda: self._cache.folder_bytes,
        )

    @property
    def is_alive(self) -> bool:
        """Whether the engine's thread takes steps, and none of them has hung for too long."""
        is_stuck = self._thread.busy_seconds > self._settings.step_seconds
        return self._thread.is_alive and not is_stuck

    @property
    def is_ready(self) -> bool:
        """Whether a request would be taken now, and more of them are welcome."""
        unready = self._is_retired or self._is_draining or self._admission.is_full
        return self.is_alive and not unready

    @property
    def is_draining(self) -> bool:
        """Whether no request is taken any more, as the server ends."""
        return self._is_draining

    @property
    def n_running(self) -> int:
        """How many texts are read or written."""
        return self._thread.n_running

    @property
    def n_steps(self) -> int:
        """How many steps the engine took to their end."""
        return self._thread.n_steps

    @property
    def n_waiting(self) -> int:
        """How many texts wait for their turn."""
        return max(0, self._admission.n_open - self.n_running)

    def start(self) -> None:
        """Begin, on the event loop that is running.

        Raises:
            RuntimeError: If none is.
        """
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox(self._loop, max_letters=_MAX_LETTERS)
        self._thread.start()

    def require_place(self, owner: str) -> None:
        """Refuse whoever would find no place for a single text; `submit` does so, too, but later.

        Args:
            owner: The key that asks.

        Raises:
            RequestError: If all places are taken, or all that the key may have, or the key took
                all its tokens (429).
        """
        try:
            self._admission.require_place(owner, 1)
            self._allowance.require(owner, self._now())
        except RequestError as full:
            raise self._rejected(full) from None

    async def submit(self, job: Job) -> Ticket:
        """Take a job.

        Raises:
            RequestError: If there is no place or the key took all its tokens (429), the engine is
                down or ends (503), or the prompt is none of this model (400).
        """
        return (await self.submit_all([job]))[0]

    async def submit_all(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Take several jobs, or none of them.

        Args:
            jobs: All of one owner.

        Returns:
            Their tickets, in the order of the jobs.

        Raises:
            RequestError: As `submit`.
        """
        return await self._submit(jobs, len(jobs))

    async def submit_series(self, jobs: Sequence[Job], *, at_once: int) -> list[Ticket]:
        """Take several jobs, or none of them, that go into the engine one after the other.

        They take as many places as are there at once, until the last has ended, and have one
        deadline. If one fails, those that have not begun fail with it.

        Args:
            jobs: All of one owner, each of one text.
            at_once: How many may be in the engine's hands.

        Returns:
            Their tickets, in the order of the jobs.

        Raises:
            RequestError: As `submit`.
        """
        return await self._submit(jobs, min(at_once, self._settings.max_sequences))

    async def _submit(self, jobs: Sequence[Job], at_once: int) -> list[Ticket]:
        """Take jobs of which so many have places, and the others follow them."""
        owner, n = jobs[0].owner, sum(job.n for job in jobs[:at_once])
        self._require_service()
        most, room_for = max(job.n for job in jobs), self._settings.max_sequences
        if most > room_for:
            raise RequestError(_TOO_MANY.format(room_for, most), param="n")
        try:
            self._allowance.require(owner, self._now())
            self._admission.require_place(owner, n)
        except RequestError as full:
            raise self._rejected(full) from None
        arrived = self._now() if jobs[0].arrived is None else jobs[0].arrived
        self._places.promise(owner, n)
        try:
            requests = await self._tokenized(jobs)
            self._require_service()
        except BaseException:
            self._places.withdraw(owner, n)
            raise
        members = [
            (Ticket(job.n, self._settings, forget=self._thread.forget), job, each)
            for job, each in zip(jobs, requests, strict=True)
        ]
        series = Series(arrived, deque(members[at_once:]))
        for member in members[:at_once]:
            self._send(*member, series)
        return [ticket for ticket, _, _ in members]

    async def run(self, work: Callable[[], T]) -> T:
        """Call a function on the engine's thread, between two steps, and return what it does.

        Args:
            work: As short as a step, as all texts wait for it. What it raises is raised here.

        Raises:
            RequestError: If the engine is down (503), or too many wait for it (429).
        """
        if self._is_closed:
            raise _unavailable(_ENDS, "shutting_down")
        if not self.is_alive:
            raise _unavailable(_DEAD, "engine_dead")
        if self._thread.n_works >= self._settings.max_connections:
            full = self._admission.full(_BUSY.format(self._settings.max_connections))
            raise self._rejected(full)
        result = self._running_loop.create_future()
        self._thread.work(work, result)
        return await result

    def retire(self) -> None:
        """Be unready from now on, so that a balancer looks away; requests are still taken."""
        self._is_retired = True

    async def drain(self, seconds: float) -> None:
        """Take no more requests, and wait until those that are here are finished.

        Args:
            seconds: How long; then the rest of them fails with an error.
        """
        self._is_draining = True
        try:
            await asyncio.wait_for(self._places.until_empty(), seconds)
        except TimeoutError:
            for ticket in self._places.tickets:
                self._end(ticket, _unavailable(_ENDS, "shutting_down"), "shutdown")

    async def until_dead(self) -> None:
        """Return when the engine is gone for good: it broke too often, or was closed."""
        await self._is_dead.wait()

    async def close(self) -> None:
        """End what is left, and the engine's thread."""
        self._is_draining = self._is_closed = True
        self._thread.close(_unavailable(_ENDS, "shutting_down"))
        if not await asyncio.to_thread(self._thread.join, _LAST_STEP_SECONDS):
            logger.error("the engine did not end its step in time, and is left behind")
        else:
            seconds = min(_LAST_WRITES_SECONDS, self._settings.shutdown_seconds)
            await asyncio.to_thread(self._cache.close, seconds)

    @property
    def _running_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "`start` must be called first"
        return self._loop

    def _now(self) -> float:
        return self._running_loop.time()

    def _make_engine(self) -> Engine:
        """Make an engine whose free slots hold NaN, so that nobody finds another's state there.

        What one remembered that broke is forgotten.
        """
        if self._has_engine:
            self._cache.clear()
        self._has_engine = True
        return Engine(
            self._lm,
            max_sequences=self._settings.max_sequences,
            chunk_tokens=self._settings.chunk_tokens,
            poison=True,
            prefix_cache=self._cache if self._cache.max_bytes else None,
        )

    def _require_service(self) -> None:
        if self._is_draining:
            raise self._rejected(_unavailable(_ENDS, "draining"))
        if not self.is_alive:
            raise self._rejected(_unavailable(_DEAD, "engine_dead"))

    def _rejected(self, error: RequestError) -> RequestError:
        self._metrics.rejected.labels(error.code or "too_many").inc()
        return error

    async def _tokenized(self, jobs: Sequence[Job]) -> list[Request]:
        """Return the jobs' requests, each with a prompt of tokens that the model has."""
        prompts = [job.request.prompt for job in jobs]
        size = sum(len(each) if isinstance(each, Sequence) else SHORT + 1 for each in prompts)
        return await off_loop(size, lambda: [self._request(job) for job in jobs])

    def _request(self, job: Job) -> Request:
        tokens = self._tokens(job.request.prompt, job.param)
        if not tokens and job.request.state is not None:
            raise RequestError(_EMPTY.format(job.param), param=job.param)
        return replace(job.request, prompt=tokens)

    def _tokens(self, prompt: str | Iterable[SupportsIndex], param: str) -> list[int]:
        most, vocab_size = self._settings.max_prompt_tokens, self._tokenizer.vocab_size
        try:
            found = self._tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
            tokens = [index(token) for token in islice(found, most + 1)]
        except (TypeError, ReceptanceError) as error:
            raise RequestError(str(error), param=param) from error
        if len(tokens) > most:
            message = _LONG_PROMPT.format(param, most)
            raise RequestError(message, code="context_length_exceeded", param=param)
        if tokens and not 0 <= min(tokens) <= max(tokens) < vocab_size:
            wrong = str(next(token for token in tokens if not 0 <= token < vocab_size))[:_SHOWN]
            raise RequestError(_NO_TOKEN.format(param, vocab_size - 1, wrong), param=param)
        return tokens

    def _send(
        self, ticket: Ticket, job: Job, request: Request, series: Series, *, follows: bool = False
    ) -> None:
        """Send a job with a promised place to the engine; one that follows has waited before."""
        arrived = series.arrived
        seconds = self._settings.request_seconds
        seconds = seconds if job.max_seconds is None else min(seconds, job.max_seconds)
        timeout, late = request_timeout(seconds), queue_timeout(self._settings.queue_seconds)
        call_at = self._running_loop.call_at
        alarms = [
            call_at(arrived + seconds, self._end, ticket, timeout, "timeout"),
        ]
        if not follows:
            wait_until = arrived + self._settings.queue_seconds
            alarms.append(call_at(wait_until, self._end_waiting, ticket, late))
        self._series[ticket] = series
        self._places.take(ticket, job.owner, job.n, alarms)
        assert isinstance(request.prompt, Sequence)
        self._allowance.take(job.owner, len(request.prompt), self._now())
        family = Family(ticket, request, job.n, job.owner, arrived)
        self._thread.submit(family)

    def _end(self, ticket: Ticket, error: RequestError, reason: str) -> None:
        """Tell who waits for a job that it failed, and let the engine forget it."""
        ticket.fail(error)
        self._thread.forget(ticket, error, reason)

    def _end_waiting(self, ticket: Ticket, error: RequestError) -> None:
        if self._places.is_waiting(ticket):
            self._end(ticket, error, "queue_timeout")

    def _on_end(self, ticket: Ticket, n_tokens: int) -> None:
        """Give a job's places to the one that follows it, before anybody else can ask for them."""
        series, owner = self._series.pop(ticket), self._places.owner_of(ticket)
        self._places.leave(ticket, n_tokens)
        follower = series.next(ticket)
        if follower is not None:
            self._places.promise(owner, follower[1].n)
            self._send(*follower, series, follows=True)

    def _on_dead(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended before
                self._loop.call_soon_threadsafe(self._is_dead.set)


def _unavailable(message: str, code: str) -> RequestError:
    return RequestError(message, status=503, code=code, retry_after=1.0)


_TOO_MANY = "`n` must be at most {}, as many texts as are written at once, but it is {}"
_BUSY = "all {} places of those who wait for the engine are taken; ask again later"
_ENDS = "the server is ending; ask again in a while, or another one"
_DEAD = "the engine is down; ask again in a while"
_EMPTY = "`{}` must hold at least one token when there is a state, but it is empty"
_LONG_PROMPT = "`{}` must have at most {} tokens, but it has more; shorten it"
_NO_TOKEN = "`{}` must be tokens from 0 to {}, but one is {}"

"""The thread that owns the engine: it takes orders between steps and reports after each."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from receptance.errors import RequestError
from receptance.inference import Engine, Generation, Output, PromptRead
from receptance.serving.engine_room.engine_maker import EngineMaker
from receptance.serving.engine_room.failures import as_request_error, engine_error, whence
from receptance.serving.engine_room.job import Finished
from receptance.serving.engine_room.line import Family, Line
from receptance.serving.engine_room.mailbox import News
from receptance.serving.engine_room.ticket import Ticket
from receptance.serving.metrics import FINISH_REASONS, Metrics

logger = logging.getLogger(__name__)


class EngineThread:
    """Runs an engine that nobody else touches.

    Orders come in from any thread and are obeyed between two steps. All that a step brought goes
    out in one call of `report`. If the engine breaks, all that it had is reported as failed, and
    there is a new one, as often in an hour as is allowed.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        *,
        n_slots: int,
        passing_seconds: float,
        restarts_per_hour: int,
        metrics: Metrics,
        report: Callable[[News], bool],
        on_begin: Callable[[Ticket], None],
        on_text_end: Callable[[Ticket], None],
        on_end: Callable[[Ticket, int], None],
        on_dead: Callable[[], None],
    ) -> None:
        """Make the engine; the thread begins with `start`.

        Args:
            make_engine: Makes one; again after it broke.
            n_slots: How many texts it can have at once.
            passing_seconds: How long a job that has too many texts for the free ones is passed by.
            restarts_per_hour: How many new engines there may be.
            metrics: What is counted.
            report: Carries news to the event loop; whether there still is one.
            on_begin: Told there of each job that waits no more.
            on_text_end: Told there of each text that is finished.
            on_end: Told there of each job that is gone, and how many tokens it was given.
            on_dead: Called when there never will be an engine again, from any thread.
        """
        self._metrics = metrics
        self._report = report
        self._on_begin = on_begin
        self._on_text_end = on_text_end
        self._on_end = on_end
        self._on_dead = on_dead
        self._maker = EngineMaker(make_engine, restarts_per_hour)
        self._orders: deque[Callable[[], None]] = deque()
        self._works: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._families: dict[Ticket, Family] = {}
        self._line = Line(n_slots, passing_seconds)
        self._by_id: dict[int, Family] = {}
        self._news: News = []
        self._is_closing = False
        self._is_heard = True
        self._n_steps = 0
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether orders are obeyed."""
        return self._thread.is_alive() and self._maker.engine is not None

    @property
    def busy_seconds(self) -> float:
        """For how long it has been at one round of orders and a step; 0 while it waits for work."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def n_running(self) -> int:
        """How many texts the engine reads or writes."""
        return len(self._by_id)

    @property
    def n_steps(self) -> int:
        """How many steps were taken to their end."""
        return self._n_steps

    @property
    def n_works(self) -> int:
        """How many functions wait to be called."""
        return len(self._works)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, family: Family) -> None:
        """Line up a job."""
        self._order(partial(self._line_up, family))

    def forget(self, ticket: Ticket, error: RequestError, reason: str) -> None:
        """End a job before the next step; one that is over is passed over.

        Args:
            ticket: Of the job.
            error: What is raised to who waits for it.
            reason: A word to count it by.
        """
        self._order(partial(self._forget, ticket, error, reason))

    def work(self, work: Callable[[], Any], result: "asyncio.Future[Any]") -> None:
        """Call a function between two steps, one of those that wait in each gap.

        Args:
            work: The function.
            result: Gets, on the event loop, what it returned or raised.
        """
        with self._changed:
            self._works.append(partial(self._work, work, result))
            self._changed.notify()

    def close(self, error: RequestError) -> None:
        """End all jobs, and then the thread.

        Args:
            error: What is raised to who waits for one.
        """
        self._order(partial(self._close, error))

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread, so long at most; return whether it ended."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _order(self, order: Callable[[], None]) -> None:
        with self._changed:
            self._orders.append(order)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._is_heard and not self._is_closing:
                for part in (self._obey, self._step):  # who is forgotten need not wait for the step
                    try:
                        part()
                    except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
                        self._recover(error)
                    self._send_news()
        finally:
            self._on_dead()

    def _send_news(self) -> None:
        news, self._news = self._news, []
        self._is_heard = self._is_heard and (not news or self._report(news))

    def _obey(self) -> None:
        """Do what was ordered, and let in who is next; wait if there is nothing to be done."""
        with self._changed:
            while not (self._orders or self._works or self._by_id or self._line):
                self._busy_since = None
                if not self._changed.wait(self._maker.seconds_to_remake()):
                    break  # nothing was ordered, but an engine is to be made
        self._busy_since = time.monotonic()
        if self._maker.seconds_to_remake() == 0.0:
            self._remake()
        while self._orders:
            self._orders.popleft()()
        if self._works:  # one a step, so that many of them do not hold up the texts
            self._works.popleft()()
        now = time.monotonic()
        while (engine := self._maker.engine) is not None and (family := self._line.next(now)):
            self._begin(engine, family)

    def _step(self) -> None:
        """Take a step, and report what it did."""
        engine = self._maker.engine
        if engine is None or not self._by_id:
            return
        n_tokens = 0

        def pass_on(outputs: list[Output]) -> None:
            nonlocal n_tokens
            n_tokens += sum(output.token is not None for output in outputs)
            now = time.monotonic()
            for output in outputs:
                self._pass_on(output, now)

        def tell(outputs: list[Output]) -> None:
            # The model is fed next, without Python's lock: meanwhile the event loop can send these.
            pass_on(outputs)
            self._send_news()

        pass_on(engine.step(tell))
        self._n_steps += 1
        if n_tokens:
            self._metrics.batch_size.observe(n_tokens)

    def _line_up(self, family: Family) -> None:
        if self._maker.engine is None:
            self._end(family, engine_error())
            return
        self._families[family.ticket] = family
        self._line.add(family)

    def _begin(self, engine: Engine, family: Family) -> None:
        try:
            ids = engine.fork(family.request, family.n)
        except Exception as error:  # noqa: BLE001 - it is one job's, whatever it is
            self._line.leave(family.owner, family.n)
            self._end(family, as_request_error(error))
            return
        family.members = {id_: index for index, id_ in enumerate(ids)}
        self._by_id |= dict.fromkeys(ids, family)
        self._metrics.queue.observe(time.monotonic() - family.arrived)
        self._news.append(partial(self._on_begin, family.ticket))

    def _pass_on(self, output: Output, now: float) -> None:
        """Report what a step did for one text."""
        family = self._by_id.get(output.id)
        if family is None:  # another text of its job failed in this step
            return
        if output.error is not None:
            self._cancel(family)
            self._end(family, as_request_error(output.error))
            return
        if output.prompt is not None and not family.is_read:
            self._note_prompt(family, output.prompt, now)
        if output.token is not None:
            self._note_token(family, output, now)
        if output.generation is not None:
            self._finish(family, output.id, output.generation, now)

    def _note_prompt(self, family: Family, prompt: PromptRead, now: float) -> None:
        """Report that the prompt of a job was read."""
        family.is_read = True
        self._metrics.prompt_tokens.inc(prompt.n_tokens)
        if prompt.cached_tokens:
            self._metrics.cache_hits.inc()
        elif family.request.cache_scope is not None:
            self._metrics.cache_misses.inc()
        self._news.append(partial(family.ticket.put_prompt, prompt, now))

    def _note_token(self, family: Family, output: Output, now: float) -> None:
        """Report the token that one text got."""
        if not family.last_token:
            self._metrics.first_token.observe(now - family.arrived)
        elif (last := family.last_token.get(output.id)) is not None:
            self._metrics.inter_token.observe(now - last)
        family.last_token[output.id] = now
        family.n_tokens += 1
        self._metrics.generation_tokens.inc()
        logprobs = () if output.logprobs is None else (output.logprobs,)
        if logprobs:
            family.logprobs.setdefault(output.id, []).extend(logprobs)
        index = family.members[output.id]
        self._news.append(partial(family.ticket.put, index, output.text, logprobs))

    def _finish(self, family: Family, id_: int, generation: Generation, now: float) -> None:
        """Report that one text is whole, and the job gone with its last one."""
        index = family.members.pop(id_)
        self._leave(family, id_)
        self._metrics.success.labels(FINISH_REASONS[generation.finish_reason]).inc()
        self._metrics.request.observe(now - family.arrived)
        finished = Finished(index, generation, now, tuple(family.logprobs.get(id_, ())))
        self._news.append(partial(family.ticket.put_finished, finished))
        self._news.append(partial(self._on_text_end, family.ticket))
        if not family.members:
            self._drop(family)

    def _forget(self, ticket: Ticket, error: RequestError, reason: str) -> None:
        if family := self._families.get(ticket):
            self._metrics.cancelled.labels(reason).inc()
            self._cancel(family)
            self._end(family, error)

    def _cancel(self, family: Family) -> None:
        """Take a job out of the engine."""
        for id_ in family.members:
            if self._maker.engine is not None:
                self._maker.engine.cancel(id_)
            self._leave(family, id_)
        family.members = {}

    def _leave(self, family: Family, id_: int) -> None:
        del self._by_id[id_]
        self._line.leave(family.owner, 1)

    def _end(self, family: Family, error: RequestError) -> None:
        """Report that a job failed."""
        self._news.append(partial(family.ticket.fail, error))
        self._drop(family)

    def _drop(self, family: Family) -> None:
        self._families.pop(family.ticket, None)
        self._line.remove(family)
        self._news.append(partial(self._on_end, family.ticket, family.n_tokens))

    def _work(self, work: Callable[[], Any], result: "asyncio.Future[Any]") -> None:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
            self._news.append(partial(_settle, result, None, error))
        else:
            self._news.append(partial(_settle, result, value, None))

    def _close(self, error: RequestError) -> None:
        self._is_closing = True
        self._fail_all(error)
        while self._works:
            self._works.popleft()()

    def _fail_all(self, error: RequestError) -> None:
        for family in list(self._families.values()):
            self._cancel(family)
            self._end(family, error)

    def _recover(self, error: BaseException) -> None:
        """Fail all that the engine had, and make another one, if that may help."""
        logger.error("the engine broke: %s", whence(error))
        self._metrics.engine_errors.inc()
        self._maker.discard()
        self._by_id.clear()
        self._line.clear()
        for family in list(self._families.values()):
            family.members = {}
            self._end(family, engine_error())
        error.__context__ = error.__cause__ = None
        error.with_traceback(None)  # its frames hold the engine
        self._remake()

    def _remake(self) -> None:
        self._maker.remake()
        if self._maker.is_given_up:
            self._news.append(self._on_dead)  # behind what its jobs are told


def _settle(result: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
    if result.done():  # who asked has left
        return
    if error is None:
        result.set_result(value)
    else:
        result.set_exception(error)

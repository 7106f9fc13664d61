"""One job at a time in a thread of its own."""

from collections.abc import Callable
from threading import Thread


class Background:
    """Runs jobs in a thread, each after the one before it has ended.

    The thread does not keep the process alive: a program that ends without `wait` leaves its job
    undone.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job, once the one under way has ended.

        Raises:
            BaseException: What the one before raised; the new one is then not begun.
        """
        self.wait()
        self._thread = Thread(target=self._run, args=(job,), name=self._name, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the job under way, if there is one.

        Raises:
            BaseException: What the job raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (it is raised where the caller waits)
            self._error = error

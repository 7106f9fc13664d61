"""A bar on stderr for what takes long, with the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal's standard error, and yield what moves it.

    Args:
        what: What is done, in a word.

    Yields:
        Takes the bytes that are done and those that there are.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("reading", total=None)

        def move(done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield move

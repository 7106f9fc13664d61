"""Which implementation of an op runs, and why not the others.

An op owns a table of implementations, fastest first. The choice is a pure function of that table,
the name that was asked for and the arguments: there is no global switch and no environment
variable, and nothing is tried to see whether it fails.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from receptance.errors import ImplementationUnavailableError


class Implementation(NamedTuple):
    """One way to compute an op."""

    name: str
    run: Callable[..., Any]
    """Computes the op; every implementation of an op takes the same arguments."""
    obstacle: Callable[..., str | None]
    """Takes the arguments of `run` and says in a clause why it cannot run them, or None."""


def choose(
    op: str, implementations: tuple[Implementation, ...], name: str, *args: object
) -> Implementation:
    """Return the implementation to run these arguments with.

    Args:
        op: The op's name, for messages.
        implementations: The op's table, fastest first.
        name: A name in the table, or "auto" for the first one without an obstacle.
        args: The arguments of the call.

    Raises:
        ValueError: If `name` is neither "auto" nor in the table.
        ImplementationUnavailableError: If what was asked for cannot run these arguments.
    """
    asked = [each for each in implementations if name in ("auto", each.name)]
    if not asked:
        names = ["auto", *(each.name for each in implementations)]
        raise ValueError(f"`implementation` must be one of {names} for {op}, got {name!r}")
    obstacles: list[str] = []
    for each in asked:
        obstacle = each.obstacle(*args)
        if obstacle is None:
            return each
        obstacles.append(f"{each.name}: {obstacle}")
    raise ImplementationUnavailableError(
        f"no implementation of {op} can run these tensors ({'; '.join(obstacles)})"
    )

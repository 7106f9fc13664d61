"""Which implementation runs, and what is said where none can."""

import pytest

from receptance.errors import ImplementationUnavailableError
from receptance.ops.dispatch import Implementation, choose


def needs_even(number: int) -> str | None:
    return None if number % 2 == 0 else f"{number} is odd"


def run(*_: object) -> None:
    raise AssertionError("choosing an implementation must not run one")


FAST = Implementation("fast", run, needs_even)
PLAIN = Implementation("plain", run, lambda *_: None)
BROKEN = Implementation("broken", run, lambda *_: "the extension is not installed")


def test_auto_takes_the_first_without_an_obstacle():
    assert choose("double", (FAST, PLAIN), "auto", 2) is FAST
    assert choose("double", (FAST, PLAIN), "auto", 3) is PLAIN
    assert choose("double", (BROKEN, FAST, PLAIN), "auto", 2) is FAST


def test_a_name_takes_that_implementation_even_where_a_faster_one_could_run():
    assert choose("double", (FAST, PLAIN), "plain", 2) is PLAIN
    assert choose("double", (FAST, PLAIN), "fast", 2) is FAST


def test_a_name_that_cannot_run_is_an_error_and_no_other_runs_instead():
    with pytest.raises(ImplementationUnavailableError) as caught:
        choose("double", (FAST, PLAIN), "fast", 3)
    assert str(caught.value) == (
        "no implementation of double can run these tensors (fast: 3 is odd)"
    )


def test_auto_without_a_way_names_every_obstacle_in_order():
    with pytest.raises(ImplementationUnavailableError) as caught:
        choose("double", (BROKEN, FAST), "auto", 3)
    assert str(caught.value) == (
        "no implementation of double can run these tensors "
        "(broken: the extension is not installed; fast: 3 is odd)"
    )


@pytest.mark.parametrize("name", ["quick", "", "Fast", "AUTO"])
def test_an_unknown_name_is_a_value_error_that_lists_the_names(name):
    with pytest.raises(ValueError, match="implementation") as caught:
        choose("double", (FAST, PLAIN), name, 2)
    assert str(caught.value) == (
        f"`implementation` must be one of ['auto', 'fast', 'plain'] for double, got {name!r}"
    )


def test_an_obstacle_sees_the_arguments_of_the_call():
    seen = []
    witness = Implementation("witness", run, lambda *args: seen.append(args))
    choose("double", (witness,), "auto", "a", 2)
    assert seen == [("a", 2)]

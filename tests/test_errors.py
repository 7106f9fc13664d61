"""The exception tree, and what the shell sees of it."""

import inspect

import pytest

from receptance import errors

EXIT_CODES = {
    "ReceptanceError": 1,
    "ConfigError": 3,
    "DataError": 3,
    "TokenizerError": 3,
    "CheckpointError": 4,
    "StateError": 4,
    "RequestError": 1,
    "ImplementationUnavailableError": 1,
    "MemoryShortageError": 1,
}


def exceptions() -> dict[str, type[errors.ReceptanceError]]:
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: each for name, each in classes if issubclass(each, errors.ReceptanceError)}


def test_every_error_has_the_exit_code_that_the_design_gives_it():
    assert {name: each.exit_code for name, each in exceptions().items()} == EXIT_CODES


def test_every_error_is_a_receptance_error_and_no_wrong_argument():
    for each in exceptions().values():
        assert issubclass(each, errors.ReceptanceError)
        assert not issubclass(each, ValueError | TypeError | OSError)


def test_the_tree_in_the_docstring_names_every_error():
    assert errors.__doc__ is not None
    for name in exceptions():
        assert name in errors.__doc__


def test_an_error_says_its_message_and_nothing_else():
    with pytest.raises(errors.ReceptanceError, match=r"^no state at 'x'$"):
        raise errors.StateError("no state at 'x'")

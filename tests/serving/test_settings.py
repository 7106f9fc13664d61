import math
from pathlib import Path

import pytest

from receptance.serving import Settings


def test_the_defaults_are_within_their_ranges():
    assert Settings().max_sequences == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_sequences", 0),
        ("request_seconds", 0.0),
        ("request_seconds", math.nan),
        ("state_cache_bytes", -1),
        ("port", 65536),
    ],
)
def test_a_limit_out_of_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Settings(**{name: value})


def test_a_folder_for_states_without_memory_for_one_is_refused():
    with pytest.raises(ValueError, match="`state_cache_folder` must be left out"):
        Settings(state_cache_folder=Path("a"), state_cache_bytes=0)


def test_what_may_be_turned_off_may_be_zero():
    assert Settings(state_cache_bytes=0, coalesce_seconds=0.0, port=0).state_cache_bytes == 0

"""What is done beside the event loop, and JSON that does not hold it up."""

import asyncio
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.serving.off_loop import SHORT, WrittenJSON, json_bytes, off_loop

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS.filter(lambda each: each not in (float("inf"), float("-inf"))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, min_size=1, max_size=1).map(lambda one: one * 150)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(("size", "is_there"), [(0, True), (SHORT, True), (SHORT + 1, False)])
def test_only_what_has_much_to_do_goes_to_a_thread(size: int, is_there: bool):
    async def run() -> bool:
        return await off_loop(size, threading.get_ident) == threading.get_ident()

    assert asyncio.run(run()) is is_there


@pytest.mark.parametrize("size", [0, SHORT + 1])
def test_what_is_raised_is_raised_where_it_is_waited_for(size: int):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(off_loop(size, lambda: 1 // 0))


@given(VALUES)
def test_json_is_what_the_standard_writer_writes(value: Any):
    expected = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert json_bytes(value) == expected.encode()


def test_what_is_written_already_is_a_part_as_it_is():
    part = WrittenJSON(json_bytes({"a": [1, "b"]}))
    assert json.loads(json_bytes({"parts": [part, part], "n": part})) == {
        "parts": [{"a": [1, "b"]}] * 2,
        "n": {"a": [1, "b"]},
    }


def test_a_long_list_may_be_of_parts_that_are_written():
    part = WrittenJSON(json_bytes([1.5] * 100))
    assert json.loads(json_bytes({"parts": [part] * 200})) == {"parts": [[1.5] * 100] * 200}


@pytest.mark.parametrize("value", [float("nan"), [float("inf")] * 100, {"a": ["\ud800"]}])
def test_what_json_cannot_say_is_no_json(value: Any):
    with pytest.raises(ValueError, match=r"Out of range float|surrogates"):
        json_bytes(value)

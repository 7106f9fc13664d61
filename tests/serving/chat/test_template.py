"""What every template refuses, and what it does to the texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.errors import RequestError
from receptance.serving.chat.template import Message, checked, without_empty_lines


def param_of(messages: list[Message], *, goes_on: bool = False) -> str | None:
    with pytest.raises(RequestError) as error:
        checked(messages, goes_on=goes_on)
    assert error.value.status == 400
    return error.value.param


def test_who_cannot_speak_is_refused_by_the_place_of_the_message():
    assert param_of([]) == "messages"
    assert param_of([Message("user", "Hi"), Message("tool", "42")]) == "messages[1].role"
    assert param_of([Message("wizard", "Hi")]) == "messages[0].role"


def test_half_a_character_is_refused():
    assert param_of([Message("user", "a\ud800b")]) == "messages[0].content"


def test_a_state_that_is_gone_on_from_takes_no_instructions():
    assert param_of([Message("system", "Obey.")], goes_on=True) == "messages[0].role"
    checked([Message("system", "Obey.")], goes_on=False)


@pytest.mark.parametrize(
    "line_end",
    ["\n\n", "\r\n\r\n", "\r\r", "\n \t\n", "\u2028\u2029", "\n\v", "\f\n", "\x85\x85", "\x1c\x1d",
     "\n\u200b\n", "\n\ufeff \u00a0\n", "\n\n\n\n", "\r\n\u2060\r\n"],
)  # fmt: skip
def test_no_kind_of_empty_line_is_left(line_end: str):
    assert without_empty_lines(f"a{line_end}Assistant: b") == "a\nAssistant: b"


def test_single_lines_stay_as_they_are():
    text = "one\n\ttwo\fthree\u2028four"
    assert without_empty_lines(text) == text


@given(st.text("a\n\r\v\f\x85\u2028\u2029\u200b \t", max_size=60))
def test_what_was_cleaned_once_stays(text: str):
    cleaned = without_empty_lines(text)
    assert without_empty_lines(cleaned) == cleaned
    assert "\n\n" not in cleaned

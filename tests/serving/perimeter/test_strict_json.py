import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.errors import RequestError
from receptance.serving.perimeter.strict_json import depth_exceeds, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)  # fmt: skip


@given(VALUES, st.booleans())
def test_all_json_is_read_as_python_does(value, escape):
    assert read_json(json.dumps(value, ensure_ascii=escape).encode(), 64) == value


def depth_of(value) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(1, 4))
def test_depth_is_counted_as_it_is(value, limit):
    text = json.dumps(value)
    assert depth_exceeds(text, limit) == (depth_of(value) > limit)


def test_brackets_in_texts_are_no_depth():
    text = json.dumps(["[" * 500, '"{[\\', {'"]': "\\"}])
    assert read_json(text.encode(), 2) == json.loads(text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body must be JSON, but is not at character 0"),
        (b"{", "must be JSON"),
        (b"{'a': 1}", "must be JSON"),
        (b'{"a": 1,}', "must be JSON"),
        (b"[1] [2]", "must be JSON, but is not at character 4"),
        (b"\xef\xbb\xbf{}", "must be JSON"),
        ('{"a": 1}'.encode("utf-16"), "must be UTF-8"),
        (b'"\xff"', "must be UTF-8, but byte 1 is not"),
        (b'"\xed\xa0\x80"', "must be UTF-8"),
        (b'{"a": NaN}', "must be finite, but one is NaN"),
        (b"[Infinity]", "must be finite, but one is Infinity"),
        (b"-Infinity", "must be finite, but one is -Infinity"),
        (b"1e999", "must be below 1.8e308, but one is 1e999"),
        (b"9" * 10_000, "must have fewer digits"),
        (b'{"n": 1, "n": 2}', "each key once, but has 'n' again"),
        (b'[{"a": {"b": 1, "\\u0062": 2}}]', "each key once, but has 'b' again"),
        (b'"\\ud800"', "must have whole characters"),
        (b'{"a": ["\\udc00 x"]}', "must have whole characters"),
        (b'{"\\ud83d": 1}', "must have whole characters"),
        (b"[" * 65 + b"]" * 65, "at most 64 deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "at most 64 deep"),
        (b"[" * 100_000 + b"]" * 100_000, "at most 64 deep"),
        (b"[" * 4_000_000, "at most 64 deep"),
        (b'{"a":' * 1_000_000, "at most 64 deep"),
    ],
    ids=range(24),
)
def test_what_python_forgives_is_refused(body, message):
    with pytest.raises(RequestError) as error:
        read_json(body, 64)
    assert message in str(error.value)
    assert len(str(error.value)) < 200
    assert (error.value.status, error.value.code) == (400, "invalid_json")


def test_the_key_that_is_there_twice_is_named():
    with pytest.raises(RequestError) as error:
        read_json(b'{"temperature": 1, "temperature": 2}', 64)
    assert error.value.param == "temperature"


def test_whole_characters_beyond_the_first_plane_may_be_escaped():
    assert read_json(b'"\\ud83d\\ude00 \\\\ud800"', 64) == "😀 \\ud800"


def test_as_deep_as_allowed_is_allowed():
    body = b'[{"a":' * 32 + b"1" + b"}]" * 32
    assert read_json(body, 64) == json.loads(body)

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.errors import RequestError
from receptance.serving.perimeter.strict_json import containers_and_depth, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)  # fmt: skip


def read(body: bytes):
    return read_json(body, max_depth=64, max_containers=1000)


@given(VALUES, st.booleans())
def test_all_json_is_read_as_python_does(value, escape):
    assert read(json.dumps(value, ensure_ascii=escape).encode()) == value


def count(value) -> tuple[int, int]:
    """Return how many lists and objects a value has, and how deep it is."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 0, 0
    inner = [count(each) for each in value]
    return 1 + sum(n for n, _ in inner), 1 + max((depth for _, depth in inner), default=0)


@given(VALUES, st.booleans())
def test_lists_and_objects_are_counted_as_they_are(value, escape):
    text = json.dumps([[value]], ensure_ascii=escape)
    assert containers_and_depth(text.encode()) == count([[value]])


@given(st.lists(st.sampled_from(list('[]{}"\\,:1 '))).map("".join))
def test_what_is_no_json_is_at_worst_refused(text):
    try:
        value = read(text.encode())
    except RequestError:
        return
    assert value == json.loads(text)


def test_brackets_in_texts_are_no_depth():
    text = json.dumps(["[" * 500, '"{[\\', {'"]': "\\"}])
    assert read_json(text.encode(), max_depth=2, max_containers=2) == json.loads(text)


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
        (b"[" + b"[]," * 1000 + b"1]", "at most 1000 lists and objects"),
        (b"[" + b"{}," * 1_000_000 + b"1]", "at most 1000 lists and objects"),
        (b'["' + b'\\"' * 1_000_000, "must be JSON"),
        (b'[["' * 60 + b'\\"' * 1_000_000 + b"\\", "must be JSON"),
        (b'{"a":1,' + b",".join(b'"%d":1' % i for i in range(200_000)) + b',"a":1}', "'a' again"),
    ],
    ids=range(29),
)
def test_what_python_forgives_is_refused(body, message):
    with pytest.raises(RequestError) as error:
        read(body)
    assert message in str(error.value)
    assert len(str(error.value)) < 200
    assert (error.value.status, error.value.code) == (400, "invalid_json")


def test_the_key_that_is_there_twice_is_named():
    with pytest.raises(RequestError) as error:
        read(b'{"temperature": 1, "temperature": 2}')
    assert error.value.param == "temperature"


def test_whole_characters_beyond_the_first_plane_may_be_escaped():
    assert read(b'"\\ud83d\\ude00 \\\\ud800"') == "😀 \\ud800"


def test_as_deep_as_allowed_is_allowed():
    body = b'[{"a":' * 32 + b"1" + b"}]" * 32
    assert read(body) == json.loads(body)

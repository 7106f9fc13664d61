from typing import Any

import pytest

from receptance.data.records import Part, RecordFormat, WrongRecordError

TURNS = [("user", "Hi"), ("assistant", "Hello.\n\nYes?"), ("user", "No"), ("assistant", "Bye")]
RAVEN = RecordFormat(chat_format="raven")


def document(record: Any, **options: str) -> str:
    """The whole document; what does not count is in brackets, and parts are apart."""
    parts = RecordFormat(**options).parts(record)
    return "|".join(marked(part) for part in parts)


def marked(part: Part) -> str:
    counted = len(part.text) if part.counted is None else part.counted
    return part.text[:counted] + (f"[{part.text[counted:]}]" if part.text[counted:] else "")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"text": "a text", "id": 3}, "a text"),
        ({"text": ""}, ""),
        ({"prompt": "2+2=", "answer": "4\n"}, "[2+2=]|4\n"),
        ({"prompt": "2+2=", "completion": "4"}, "[2+2=]|4"),
        ({"question": "2+2?", "answer": " 4"}, "[User: 2+2?\n\nAssistant:]| 4"),
        ({"instruction": "Add", "output": "4"}, "[User: Add\n\nAssistant:]| 4"),
        ({"instruction": "Add", "input": "", "output": "4"}, "[User: Add\n\nAssistant:]| 4"),
        (
            {"instruction": "Add", "input": "2\n\n2", "output": "4", "text": "all of it"},
            "[User: Add\n2\n2\n\nAssistant:]| 4",
        ),
    ],
)
def test_the_keys_tell_what_a_record_is(record: dict[str, Any], expected: str) -> None:
    assert document(record) == expected


@pytest.mark.parametrize("is_share_gpt", [False, True])
def test_a_chat_is_written_as_the_chat_would_feed_it(is_share_gpt: bool) -> None:
    names = {"user": "human", "assistant": "gpt"}
    if is_share_gpt:
        record = {"conversations": [{"from": names[role], "value": text} for role, text in TURNS]}
    else:
        record = {"messages": [{"role": role, "content": text} for role, text in TURNS]}
    assert document(record) == (
        "[User: Hi\n\nAssistant:]| Hello.\nYes?|\n\nUser[: No\n\nAssistant:]| Bye"
    )
    assert RAVEN.parts(record)[0] == Part("Bob: Hi\n\nAlice:", 0)


def test_what_the_system_says_is_a_part_of_its_own() -> None:
    turns = [{"role": "system", "content": "Be\n\nbrief."}]
    turns += [{"role": role, "content": text} for role, text in TURNS[:2]]
    assert document({"messages": turns}) == (
        "[Be\nbrief.]|[\n\nUser: Hi\n\nAssistant:]| Hello.\nYes?"
    )


def test_options_name_the_fields() -> None:
    record = {"prompt": "p", "answer": "a", "text": "t", "body": "b"}
    assert document(record) == "[p]|a"
    assert document(record, text_field="body") == "b"
    assert document(record, prompt_field="body", answer_field="text") == "[b]|t"
    assert document(record, chat_format="qa") == "[Question: p\n\nAnswer:]| a"


def test_the_loss_may_be_on_all_of_it() -> None:
    record = {"instruction": "Add", "output": "4"}
    assert document(record, loss_on="all") == "User: Add\n\nAssistant:| 4"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "the line must be a JSON object, but is a list"),
        (None, "the line must be a JSON object, but is null"),
        (3, "the line must be a JSON object, but is a number"),
        ({}, r"must have a field 'text', .*, but it has none; name its fields with --text-field"),
        ({"body": "x"}, "but it has 'body'; name its fields"),
        ({"prompt": "x"}, "must have a field 'text', or those of a pair"),
        ({"text": None}, "`text` must be a text, but is null"),
        ({"text": True}, "`text` must be a text, but is a truth value"),
        ({"text": "a\ud800"}, "`text` must be Unicode text, but character 1 is half of a surr"),
        ({"text": "a\0"}, "`text` must be text, but character 1 is zero"),
        ({"prompt": "x", "answer": " \n"}, r"`answer` must say something, but is ' \\n'"),
        ({"prompt": "", "answer": "x"}, "`prompt` must say something, but is ''"),
        ({"instruction": "x", "input": 3, "output": "y"}, "`input` must be a text, but is a num"),
        ({"messages": []}, "`messages` must be a list of turns, but is an empty list"),
        ({"messages": "x"}, "`messages` must be a list of turns, but is a text"),
        ({"messages": ["x"]}, r"`messages\[0\]` must be an object, but is a text"),
        ({"messages": [{"role": "user"}]}, r"have a field `messages\[0\].content`, but has 'role'"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            r"`messages\[0\].role` must be one of system, .*, but is 'tool'",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            r"`messages\[0\].role` must be the user's turn, but is 'assistant'",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}]},
            "`messages` must end with an assistant's turn, but ends with a user's",
        ),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "system", "value": "x"}]},
            r"`conversations\[1\].from` must be the assistant's turn, but is 'system'",
        ),
    ],
)
def test_a_wrong_record_is_said_to_be_one(record: Any, message: str) -> None:
    with pytest.raises(WrongRecordError, match=message):
        RecordFormat().parts(record)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_field": "a"}, "`prompt_field` and `answer_field` must be given together"),
        (
            {"prompt_field": "a", "answer_field": "b", "text_field": "c"},
            "one of `text_field` and `prompt_field` must be given, not both, got 'c' and 'a'",
        ),
        ({"loss_on": "x"}, "`loss_on` must be 'answer' or 'all', got 'x'"),
        ({"chat_format": "x"}, "`chat_format` must be one of world, raven, qa, got 'x'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordFormat(**options)


def test_of_a_table_only_the_columns_that_matter_are_looked_at() -> None:
    names = ["id", "text", "vector", "prompt", "output"]
    assert RecordFormat().fields_among(names) == ["text", "prompt", "output"]
    assert RecordFormat(text_field="id").fields_among(names) == ["id"]
    assert RecordFormat().fields_among(["id", "vector"]) == ["id", "vector"]


@pytest.mark.parametrize("field", ["messages", "prompt", "question"])
def test_a_field_that_is_null_is_as_one_that_is_not_there(field):
    record = {field: None, "answer": None, "text": "some text"}

    assert RecordFormat().parts(record) == [Part("some text", None)]

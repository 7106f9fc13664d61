"""The authors' turns, written message by message."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.chat_format import CHAT_FORMATS, ChatFormat
from receptance.errors import RequestError
from receptance.serving.chat.finding import find_template
from receptance.serving.chat.template import Message
from receptance.serving.chat.turns import PlainTemplate, TurnTemplate
from receptance.tokenizer import BytesTokenizer, train_bpe

BYTES = BytesTokenizer()
WORLD = TurnTemplate("world", ChatFormat(), BYTES)
PLAIN = PlainTemplate(BYTES)


def messages(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role, content) for role, content in pairs]


def text(template: TurnTemplate | PlainTemplate, *pairs: tuple[str, str], **options: bool) -> str:
    return BYTES.decode(template.render(messages(*pairs), **options).tokens)


def test_a_conversation_is_written_as_the_authors_write_it():
    assert (
        text(
            WORLD,
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Hello."),
            ("user", "Why?"),
        )
        == "Be brief.\n\nUser: Hi\n\nAssistant: Hello.\n\nUser: Why?\n\nAssistant:"
    )


def test_the_first_turn_has_nothing_before_it_and_one_after_a_state_an_empty_line():
    assert text(WORLD, ("user", "Hi")) == "User: Hi\n\nAssistant:"
    assert text(WORLD, ("user", "Hi"), goes_on=True) == "\n\nUser: Hi\n\nAssistant:"


def test_raven_speaks_as_bob_and_alice_and_ends_at_bob():
    raven = TurnTemplate("raven", CHAT_FORMATS["raven"], BYTES)
    assert text(raven, ("user", "Hi")) == "Bob: Hi\n\nAlice:"
    assert raven.render(messages(("user", "Hi"))).stop == ("\n\nBob",)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("system", "Say something.")], "Say something.\n\nAssistant:"),
        ([("assistant", "Hello.")], "Assistant: Hello.\n\nAssistant:"),
        ([("user", "a"), ("user", "b")], "User: a\n\nUser: b\n\nAssistant:"),
        (
            [("user", "a"), ("assistant", "b"), ("assistant", "c")],
            "User: a\n\nAssistant: b\n\nAssistant: c\n\nAssistant:",
        ),
        ([("developer", "One."), ("system", "Two."), ("user", "a")],
         "One.\nTwo.\n\nUser: a\n\nAssistant:"),
        ([("user", "a"), ("assistant", "")], "User: a\n\nAssistant:\n\nAssistant:"),
    ],
)  # fmt: skip
def test_any_order_of_turns_has_a_form(pairs: list[tuple[str, str]], expected: str):
    assert text(WORLD, *pairs) == expected


def test_turns_that_ask_for_no_answer_end_with_what_was_said():
    assert text(WORLD, ("user", "Remember 7."), asks=False) == "User: Remember 7."
    assert text(WORLD, ("system", "Be brief."), asks=False) == "Be brief."


def test_a_plain_model_reads_the_texts_alone():
    prompt = PLAIN.render(messages(("system", "A tale."), ("user", "Once")))
    assert BYTES.decode(prompt.tokens) == "A tale.\n\nOnce"
    assert (prompt.stop, prompt.strips_space) == ((), False)
    pairs = [("user", "Once"), ("assistant", " upon a time"), ("user", "Then")]
    assert text(PLAIN, *pairs) == "Once upon a time\n\nThen"


@pytest.mark.parametrize(
    ("pairs", "param"),
    [
        ([("user", "a"), ("system", "Obey.")], "messages[1].role"),
        ([("user", " \n ")], "messages[0].content"),
        ([("system", "Be brief."), ("user", "")], "messages[1].content"),
    ],
)
def test_what_cannot_be_written_is_refused_by_its_place(pairs: list[tuple[str, str]], param: str):
    with pytest.raises(RequestError) as error:
        WORLD.render(messages(*pairs))
    assert (error.value.status, error.value.param) == (400, param)


def test_a_plain_model_is_not_asked_to_go_on_from_nothing():
    with pytest.raises(RequestError, match=r"messages\[0\].content"):
        PLAIN.render(messages(("user", "")))


LINES = st.text("ab 漢é\n:.0", min_size=1, max_size=12).filter(lambda text: bool(text.strip()))


@given(st.lists(LINES, min_size=1, max_size=7), st.sampled_from(["world", "raven", "plain"]))
@settings(max_examples=60)
def test_a_longer_conversation_begins_with_the_shorter_one(texts: list[str], name: str):
    tokenizer = train_bpe(["User: a\n\nAssistant: ab.\n\n: b ab漢 ab\n"] * 4, vocab_size=300)
    template = find_template(None, name, tokenizer)
    roles = ("user", "assistant")
    said = [Message(roles[number % 2], text) for number, text in enumerate(texts)]
    prompts = [template.render(said[:n]).tokens for n in range(1, len(said) + 1, 2)]
    for shorter, longer in pairwise(prompts):
        assert longer[: len(shorter)] == shorter


def test_many_and_odd_messages_take_time_in_proportion_to_their_length():
    begin = time.process_time()
    WORLD.render([Message("user", "a"), Message("assistant", "b")] * 5000)
    for text in ("\n" * 10**5 + "a", "\n" + " " * 10**5 + "a", "\u2028 " * 10**5 + "a"):
        WORLD.render([Message("user", text)])
    assert time.process_time() - begin < 3

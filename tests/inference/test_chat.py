"""A conversation is one text, remembered by a state and nothing else."""

import pytest
import torch

from receptance.errors import StateError
from receptance.inference import Chat, SamplingParams


@pytest.fixture
def params(ascii_bias):
    return SamplingParams(max_tokens=6, seed=1, logit_bias=ascii_bias)


def same(chat: Chat, other: Chat) -> bool:
    first, second = chat.state, other.state
    assert first is not None
    assert second is not None
    return all(torch.equal(t, second.tensors[n]) for n, t in first.tensors.items())


def said(chat: Chat, text: str) -> str:
    return "".join(chat.say(text))


def test_the_state_has_read_the_whole_conversation(lm, params):
    chat = Chat(lm, params, system="Be\n\nbrief.")
    generations = []
    state = lm.prefill("Be\nbrief.")
    for seed, text in ((1, "Hello"), (2, "Why?")):
        expected = lm.generate(
            f"\n\nUser: {text}\n\nAssistant:", params, state=state, seed=seed, stop=("\n\nUser",)
        )
        generations.append(expected.text.lstrip())
        state = expected.state

    assert [said(chat, "Hello"), said(chat, "Why?")] == generations
    assert chat.state is not None
    assert all(torch.equal(t, state.tensors[n]) for n, t in chat.state.tensors.items())


def test_an_answer_is_shown_without_the_space_it_begins_with(lm):
    only_space_and_a = {token: float("-inf") for token in range(256) if token not in (32, 97)}
    params = SamplingParams(max_tokens=12, seed=0, logit_bias={**only_space_and_a, 32: 50.0})
    assert said(Chat(lm, params), "x") == ""

    params = SamplingParams(max_tokens=12, seed=0, temperature=50.0, logit_bias=only_space_and_a)
    assert said(Chat(lm, params), "x").startswith("a")


def test_undo_goes_back_to_before_the_turn(lm, params):
    chat, other = Chat(lm, params), Chat(lm, params)
    said(chat, "one")
    said(other, "one")
    said(chat, "two")

    assert not same(chat, other)
    assert chat.undo() == "two"
    assert same(chat, other)
    assert chat.undo() == "one"
    assert chat.state is None
    with pytest.raises(ValueError, match="there must be a turn to take back"):
        chat.undo()


def test_retry_gives_another_answer_to_the_same_turn(lm, params):
    chat, other = Chat(lm, params), Chat(lm, params)
    first = said(chat, "one")
    second = "".join(chat.retry())

    assert first != second
    assert said(other, "one") == first
    assert chat.n_turns_to_undo == 1
    with pytest.raises(ValueError, match="there must be a turn"):
        Chat(lm, params).retry()


def test_a_turn_that_was_not_read_to_its_end_is_forgotten(lm, params):
    chat = Chat(lm, params)

    next(iter(chat.say("one")))

    assert chat.state is None
    assert chat.n_turns_to_undo == 0


def test_reset_goes_back_to_the_instructions(lm, params):
    chat, fresh = Chat(lm, params, system="Be kind."), Chat(lm, params, system="Be kind.")
    said(chat, "one")

    chat.reset()

    assert same(chat, fresh)
    assert chat.n_turns_to_undo == 0


def test_a_saved_conversation_goes_on(lm, params, tmp_path):
    chat, other = Chat(lm, params), Chat(lm, params)
    with pytest.raises(ValueError, match="nothing was said yet"):
        chat.save(tmp_path / "talk.safetensors")
    said(chat, "one")
    chat.save(tmp_path / "talk.safetensors")

    other.load(tmp_path / "talk.safetensors")

    assert same(chat, other)
    assert other.n_turns_to_undo == 0
    with pytest.raises(StateError, match="does not exist"):
        other.load(tmp_path / "nothing.safetensors")
    assert same(chat, other)


def test_saying_nothing_is_refused(lm, params):
    with pytest.raises(ValueError, match="`text` must say something, got ' '"):
        Chat(lm, params).say(" ")

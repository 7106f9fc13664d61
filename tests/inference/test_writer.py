"""A writer tells of each token once, and of its own errors alone."""

from dataclasses import replace

import pytest
import torch

from receptance.inference import LanguageModel, SamplingParams
from receptance.inference.generation import Draft
from receptance.inference.request import PromptRead
from receptance.inference.sampler import Sampler
from receptance.inference.writer import Writer, bring_what_is_told


@pytest.fixture
def writer(lm: LanguageModel) -> Writer:
    """A text of at most two tokens after the prompt "a", in a model that was fed "bc"."""
    logits, state = lm.forward(b"a")
    _, fed = lm.forward(b"bc", state)
    sampler = Sampler(SamplingParams(max_tokens=2), 256)
    draft = Draft(lm.tokenizer, sampler, 1, fed.clone)
    return Writer(0, lm, draft, logits, 3, PromptRead(n_tokens=1))


def test_the_first_output_alone_tells_of_the_prompt(writer):
    read = writer.prompt

    first, second = (writer.push(7, token) for token in b"bc")

    assert (first.id, first.token, first.text) == (7, 98, "b")
    assert first.prompt is read
    assert second.prompt is None
    assert writer.is_over


def test_what_was_likely_is_told_by_the_logits_before_the_token(writer):
    output = writer.push(7, 98)

    expected = writer.logits.double().log_softmax(-1)
    assert output.logprobs is not None
    assert output.logprobs.logprob == float(expected[98])
    assert [token for token, _ in output.logprobs.top] == expected.topk(3).indices.tolist()


def test_an_error_in_place_of_a_token_is_told_with_the_prompt(writer):
    error, read = ValueError("no token"), writer.prompt

    output = writer.push(7, error)

    assert (output.error, output.token) == (error, None)
    assert output.prompt is read


def test_the_last_output_has_the_whole_text_and_the_state_after_it(writer, lm):
    writer.push(7, 98)
    last = writer.finish(writer.push(7, 99))

    assert last.generation is not None
    assert last.generation.text == "bc"
    _, state = lm.forward(b"abc")
    for name, tensor in last.generation.state.tensors.items():
        torch.testing.assert_close(tensor, state.tensors[name])


def test_a_text_that_cannot_be_finished_ends_with_the_error(writer, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(writer.draft, "finish", fail)

    assert isinstance(writer.finish(writer.push(7, 98)).error, MemoryError)


def test_only_logits_that_are_told_of_are_brought_to_the_cpu(writer):
    writers = [replace(writer, logprobs=n_top) for n_top in (None, 2, None, 0)]
    logits = torch.randn(4, 256, generator=torch.Generator().manual_seed(0))
    before = [each.logits for each in writers]

    bring_what_is_told(writers, logits)

    for row, each in enumerate(writers):
        assert each.logits is before[row] if row % 2 == 0 else each.logits.equal(logits[row])

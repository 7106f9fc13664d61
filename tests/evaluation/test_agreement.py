"""How far two models' predictions are from each other on the text of this package."""

import pytest
import torch

from receptance.evaluation import agreement, probe_logits, probe_tokens
from receptance.evaluation.agreement import N_PROBE_TOKENS, PROBE
from receptance.tokenizer import load_tokenizer, train_bpe
from tests.random_models import random_rwkv4


def test_the_text_is_read_where_both_have_one_tokenizer():
    by_bytes = load_tokenizer("bytes")

    tokens, read = probe_tokens(by_bytes, load_tokenizer("bytes"), 256)

    assert read == "text"
    assert tokens.tolist() == by_bytes.encode(PROBE)[:N_PROBE_TOKENS]


@pytest.mark.parametrize("vocab_size", [3, 256, 50277])
def test_the_same_tokens_are_read_where_they_have_not(vocab_size):
    other = train_bpe(["some text that is long enough to learn from"], 260)
    tokens, read = probe_tokens(load_tokenizer("bytes"), other, vocab_size)

    assert read == "tokens"
    assert len(tokens) == N_PROBE_TOKENS
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size
    assert torch.equal(tokens, probe_tokens(None, None, vocab_size)[0])


def test_a_vocabulary_too_small_for_the_text_reads_tokens():
    by_bytes = load_tokenizer("bytes")
    assert probe_tokens(by_bytes, by_bytes, 50)[1] == "tokens"


def test_a_model_agrees_with_itself():
    logits = probe_logits(random_rwkv4(), probe_tokens(None, None, 40)[0])

    found = agreement(logits, logits, "tokens")

    assert (found.max_abs_logit, found.same_likeliest, found.n_tokens) == (0, 1, N_PROBE_TOKENS)
    assert found.kl_nats == 0


def test_the_figures_are_those_of_two_distributions():
    first = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    second = torch.tensor([[0.0, 1.5], [0.0, 1.0]])

    found = agreement(first, second, "text")

    assert found.max_abs_logit == 2
    assert found.same_likeliest == 0.5
    p, q = first.double().softmax(-1), second.double().softmax(-1)
    assert found.kl_nats == pytest.approx(float((p * (p / q).log()).sum(-1).mean()))


def test_a_tokenizer_that_one_came_without_is_that_of_the_other():
    by_bytes = load_tokenizer("bytes")
    for pair in ((by_bytes, None), (None, by_bytes)):
        assert torch.equal(probe_tokens(*pair, 256)[0], probe_tokens(by_bytes, by_bytes, 256)[0])

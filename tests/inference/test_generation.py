"""What is generated is one text, however it is looked at, and its state goes on where it ends."""

import pytest
import torch

from receptance.inference import SamplingParams
from receptance.inference.generation import Draft
from receptance.inference.language_model import LanguageModel
from receptance.inference.sampler import Sampler
from receptance.tokenizer import train_bpe
from tests.inference.constraints import OneOf
from tests.random_models import random_rwkv4

SEEDS = range(3)


@pytest.fixture(scope="module")
def bpe_lm() -> LanguageModel:
    """A random model whose tokens are up to several characters long."""
    text = "a stop string may begin in the middle of a token, and so may a word; stop, stop it. "
    tokenizer = train_bpe([text * 5, "héllo wörld – ünïcode ✓✓ " * 5], 330)
    model = random_rwkv4(n_layer=2, n_embd=16, vocab_size=tokenizer.vocab_size + 7)
    return LanguageModel(model, tokenizer)


@pytest.mark.parametrize("seed", SEEDS)
def test_pieces_joined_are_the_text_and_the_text_is_its_tokens(lm, seed):
    generation = lm.generate("prompt", max_tokens=24, seed=seed)
    stream = lm.stream("prompt", max_tokens=24, seed=seed)
    pieces = list(stream)

    assert all(pieces)
    assert "".join(pieces) == generation.text == stream.generation.text
    assert stream.generation.tokens == generation.tokens
    assert lm.tokenizer.decode(generation.tokens) == generation.text
    assert generation.prompt_tokens == len("prompt")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_state_has_seen_the_prompt_and_the_tokens(lm, seed):
    generation = lm.generate("prompt", max_tokens=16, seed=seed)
    state = lm.prefill([*b"prompt", *generation.tokens])

    after, _ = lm.forward([7], generation.state)
    expected, _ = lm.forward([7], state)

    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-3)


def test_the_length_is_kept(lm, ascii_bias):
    generation = lm.generate("a", max_tokens=9, seed=1, logit_bias=ascii_bias)

    assert generation.finish_reason == "length"
    assert len(generation.tokens) == generation.generated_tokens == len(generation.text) == 9


def test_the_end_of_the_text_ends_it_and_is_not_in_it(lm, ascii_bias):
    ascii_bias[0] = 3.0
    generation = lm.generate("a", max_tokens=100, seed=1, logit_bias=ascii_bias)

    assert generation.finish_reason == "end_of_text"
    assert 0 not in generation.tokens
    assert generation.generated_tokens == len(generation.tokens) + 1
    assert lm.tokenizer.decode(generation.tokens) == generation.text


def test_a_text_that_ends_at_once_is_empty(lm):
    generation = lm.generate("a", logit_bias={0: 1000.0})

    assert (generation.text, generation.tokens) == ("", ())
    assert generation.finish_reason == "end_of_text"
    after, _ = lm.forward([1], generation.state)
    assert torch.equal(after, lm.forward([1], lm.prefill("a"))[0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_stop_string_cuts_text_tokens_and_state_where_it_begins(bpe_lm, seed, n):
    whole = bpe_lm.generate("st", max_tokens=20, seed=seed, temperature=0.9)
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + n]

    stream = bpe_lm.stream("st", max_tokens=20, seed=seed, temperature=0.9, stop=(stop,))
    pieces = list(stream)
    cut = stream.generation

    assert "".join(pieces) == cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert bpe_lm.tokenizer.decode(cut.tokens) == cut.text
    assert cut.generated_tokens <= whole.generated_tokens
    prompt = bpe_lm.tokenizer.encode("st")
    after, _ = bpe_lm.forward([7], cut.state)
    expected, _ = bpe_lm.forward([*prompt, *cut.tokens, 7])
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-3)


def test_text_that_only_begins_a_stop_string_is_let_out_at_the_end(lm, ascii_bias):
    whole = lm.generate("a", max_tokens=10, seed=2, logit_bias=ascii_bias)
    stop = whole.text[-3:] + "never"

    cut = lm.generate("a", max_tokens=10, seed=2, logit_bias=ascii_bias, stop=(stop,))

    assert cut.text == whole.text
    assert cut.tokens == whole.tokens
    assert cut.finish_reason == "length"


def test_a_character_cut_by_the_length_becomes_a_replacement(lm):
    only_half = {token: float("-inf") for token in range(256) if token != 0xE2}

    generation = lm.generate("a", max_tokens=2, logit_bias=only_half)

    assert generation.text == "\ufffd\ufffd"
    assert generation.tokens == (0xE2, 0xE2)


def test_the_seed_that_is_told_gives_the_text_again(lm):
    first = lm.generate("prompt", max_tokens=16)
    again = lm.generate("prompt", max_tokens=16, seed=first.seed)
    other = lm.generate("prompt", max_tokens=16, seed=first.seed + 1)

    assert first.tokens == again.tokens
    assert first.tokens != other.tokens


def test_greedy_takes_the_likeliest_token_each_time(lm):
    generation = lm.generate("prompt", max_tokens=6, temperature=0.0, logit_bias={0: -100.0})
    tokens = list(b"prompt")
    for token in generation.tokens:
        logits, _ = lm.forward(tokens)
        assert token == 1 + int(logits[1:].argmax())
        tokens.append(token)


def test_repetition_counts_the_prompt(lm):
    likeliest = int(lm.forward([9])[0].argmax())
    options = {"max_tokens": 1, "temperature": 0.0, "logit_bias": {likeliest: 5.0, 0: -100.0}}

    plain = lm.generate([likeliest, 9], **options)
    penalised = lm.generate([likeliest, 9], repetition_penalty=1000.0, **options)

    assert plain.tokens == (likeliest,)
    assert penalised.tokens != (likeliest,)


def test_a_frequency_penalty_spreads_the_tokens(lm):
    options = {"max_tokens": 20, "temperature": 0.0, "logit_bias": {0: -100.0}}

    plain = lm.generate("a", **options)
    spread = lm.generate("a", frequency_penalty=1000.0, **options)

    assert len(set(spread.tokens)) == 20 > len(set(plain.tokens))


def test_rows_that_are_no_tokens_are_never_chosen(bpe_lm):
    prompt = list(range(bpe_lm.model.config.vocab_size))

    generation = bpe_lm.generate(prompt, max_tokens=10, seed=0, repetition_penalty=1.2)

    assert max(generation.tokens) < bpe_lm.tokenizer.vocab_size


def test_params_and_options_go_together(lm):
    params = SamplingParams(max_tokens=5, temperature=0.0)

    assert lm.generate("a", params).tokens == lm.generate("a", max_tokens=5, temperature=0.0).tokens
    assert len(lm.generate("a", params, max_tokens=2, logit_bias={0: -100.0}).tokens) == 2


def test_a_wrong_option_is_refused_before_anything_is_generated(lm):
    with pytest.raises(ValueError, match=r"`temperature` must be at least 0, got -1\.0"):
        lm.stream("a", temperature=-1.0)
    with pytest.raises(TypeError, match="temprature"):
        lm.stream("a", temprature=1.0)
    with pytest.raises(ValueError, match="`logit_bias` must name tokens below 256, got 256"):
        lm.stream("a", logit_bias={256: 1.0})


def test_the_whole_is_not_known_before_the_end(lm):
    stream = lm.stream("a", max_tokens=3, seed=0)

    with pytest.raises(RuntimeError, match="must be read to its end"):
        _ = stream.generation
    whole = stream.read()

    assert stream.generation is whole
    assert list(stream) == []
    assert stream.generation is whole


def test_generating_leaves_gradients_and_global_randomness_as_they_were(lm):
    before = torch.get_rng_state()
    for _ in lm.stream("a", max_tokens=3, seed=0):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()

    assert torch.equal(torch.get_rng_state(), before)


def constrained(lm, texts, stop=(), max_tokens=9) -> Draft:
    params = SamplingParams(max_tokens=max_tokens, stop=stop, seed=0)
    sampler = Sampler(params, 256, OneOf(texts))
    return Draft(lm.tokenizer, sampler, 1, lm.zero_state)


def test_the_last_token_that_a_constraint_allows_is_of_the_text_and_is_fed(lm):
    draft = constrained(lm, [b"ab"])

    assert draft.push(ord("a")) == "a"
    assert (draft.finish_reason, draft.awaits_its_token) == (None, True)
    assert draft.push(ord("b")) == "b"
    assert (draft.finish_reason, draft.awaits_its_token) == ("stop", True)
    assert draft.finish(lm.forward).text == "ab"


def test_what_was_held_back_comes_out_at_the_end_of_a_constraint(lm):
    draft = constrained(lm, [b"ab", b"\xc3"], stop=("bc",))
    assert [draft.push(each) for each in b"ab"] == ["a", "b"]

    draft = constrained(lm, [b"\xc3"])
    assert draft.push(0xC3) == "\ufffd"
    assert draft.finish_reason == "stop"


def test_a_stop_string_goes_before_the_end_of_a_constraint(lm):
    draft = constrained(lm, [b"ab"], stop=("b",))

    assert draft.push(ord("a")) + draft.push(ord("b")) == "a"
    assert (draft.finish_reason, draft.awaits_its_token) == ("stop", False)
    assert draft.finish(lm.forward).tokens == (ord("a"),)


def test_a_text_may_be_over_before_it_begins(lm):
    assert constrained(lm, [b""]).finish_reason == "stop"
    assert constrained(lm, [b""], max_tokens=0).finish_reason == "stop"
    assert constrained(lm, [b"a"], max_tokens=0).finish_reason == "length"
    assert list(lm.stream("a", max_tokens=0)) == []

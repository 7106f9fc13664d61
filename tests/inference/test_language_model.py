"""Text and tokens in, logits and states out: splitting changes nothing, and nothing is changed."""

import pytest
import torch

from receptance.errors import StateError, TokenizerError
from receptance.inference import LanguageModel
from receptance.models import State
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

CHUNK_TOKENS = 8  # of the fixture `lm`
TOKENS = [5, 200, 17, 0, 33, 64, 64, 1]
# Float32 rounds differently at another number of rows; the logits are of order 10.
TOLERANCE = 1e-4


def assert_same(first: State, second: State) -> None:
    for name, tensor in first.tensors.items():
        torch.testing.assert_close(
            tensor, second.tensors[name], rtol=TOLERANCE, atol=TOLERANCE, msg=name
        )


def long_tokens(n: int) -> list[int]:
    return torch.randint(256, (n,), generator=torch.Generator().manual_seed(3)).tolist()


def test_forward_gives_what_the_model_gives(lm):
    logits, state = lm.forward(TOKENS)
    expected, expected_state = lm.model(torch.tensor([TOKENS]))

    assert logits.shape == (256,)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected[0, -1].detach(), rtol=TOLERANCE, atol=TOLERANCE)
    assert_same(state, expected_state.detach())


@pytest.mark.parametrize("split", [1, 4, 7])
def test_splitting_a_sequence_changes_nothing(lm, split):
    whole, whole_state = lm.forward(TOKENS)

    _, state = lm.forward(TOKENS[:split])
    logits, state = lm.forward(TOKENS[split:], state)

    torch.testing.assert_close(logits, whole, rtol=TOLERANCE, atol=TOLERANCE)
    assert_same(state, whole_state)


def test_splitting_at_a_chunk_changes_not_a_bit(lm):
    tokens = long_tokens(2 * CHUNK_TOKENS + 10)
    whole = lm.prefill(tokens)

    state = lm.prefill(tokens[CHUNK_TOKENS:], lm.prefill(tokens[:CHUNK_TOKENS]))

    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, state.tensors[name]), name


def test_a_prompt_is_fed_in_chunks_of_one_size_however_long_it_is(lm):
    lengths = []
    lm.model.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))

    lm.prefill(token for token in long_tokens(3 * CHUNK_TOKENS + 5))

    assert lengths == [CHUNK_TOKENS] * 3 + [5]


def test_text_and_its_tokens_are_the_same_prompt(lm):
    text = lm.prefill("naïve")

    assert_same(text, lm.prefill(list("naïve".encode())))


def test_a_state_is_never_changed(lm):
    state = lm.prefill(TOKENS)
    before = state.clone()

    lm.forward([1, 2], state)
    lm.prefill("abc", state)
    lm.generate("abc", max_tokens=3, state=state, temperature=1.0)
    lm.score("a", "b", state)

    for name, tensor in state.tensors.items():
        assert torch.equal(tensor, before.tensors[name]), name


def test_an_empty_prompt_begins_after_the_end_of_a_text(lm):
    assert_same(lm.prefill(""), lm.prefill([0]))
    assert lm.score("", "ab") == pytest.approx(lm.score([0], "ab"))


@pytest.mark.parametrize("empty", ["", []])
def test_a_state_predicts_nothing_until_a_token_is_fed(lm, empty):
    state = lm.prefill(TOKENS)
    words = "a state predicts nothing until a token is fed"

    for call in (lm.prefill, lm.generate, lm.stream):
        with pytest.raises(ValueError, match=words):
            call(empty, state=state)
    with pytest.raises(ValueError, match=words):
        lm.score(empty, "a", state)


def test_no_tokens_have_no_logits(lm):
    with pytest.raises(ValueError, match="`tokens` must hold at least one token, got "):
        lm.forward([])


@pytest.mark.parametrize("wrong", [-1, 256, 2**40])
def test_a_token_beyond_the_vocabulary_is_refused(lm, wrong):
    words = f"tokens must be from 0 to 255, as the model's vocabulary is, got {wrong}"

    for call in (lm.forward, lm.prefill, lm.generate):
        with pytest.raises(ValueError, match=words):
            call([1, wrong, 2])


def test_a_token_that_is_no_integer_is_refused(lm):
    with pytest.raises(TypeError):
        lm.forward(iter([1.5]))


def test_a_state_of_several_sequences_is_refused(lm):
    state = lm.prefill(TOKENS)
    two = type(state).concatenate([state, state])

    with pytest.raises(ValueError, match=r"one sequence, got one of 2; take one out of it by"):
        lm.forward([1], two)


def test_score_is_the_log_softmax_of_forward(lm):
    context, continuation = [7, 8, 9], [10, 200, 3]
    expected, seen = [], list(context)
    for token in continuation:
        expected.append(lm.forward(seen)[0].log_softmax(-1)[token].item())
        seen.append(token)

    assert lm.score(context, continuation) == pytest.approx(expected, abs=1e-4)
    state = lm.prefill(context[:2])
    assert lm.score(context[2:], continuation, state) == pytest.approx(expected, abs=1e-4)


def test_score_crosses_chunks_unharmed(lm):
    tokens = long_tokens(2 * CHUNK_TOKENS + 3)
    with torch.no_grad():
        logits, _ = lm.model(torch.tensor([tokens]))
    expected = logits[0, :-1].log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]

    scores = lm.score(tokens[:1], tokens[1:])

    assert scores == pytest.approx(expected.tolist(), abs=1e-3)


def test_scores_come_one_for_each_token_of_the_continuation(lm):
    assert len(lm.score("context", " continuation")) == len(" continuation")
    assert lm.score("context", "") == []


def test_a_saved_state_goes_on_exactly(lm, tmp_path):
    state = lm.prefill("def main(")
    state.save(tmp_path / "state.safetensors")

    loaded = lm.load_state(tmp_path / "state.safetensors")

    options = {"max_tokens": 20, "seed": 3}
    assert torch.equal(lm.forward([1], loaded)[0], lm.forward([1], state)[0])
    assert (
        lm.generate("x", state=loaded, **options).text
        == lm.generate("x", state=state, **options).text
    )


def test_a_state_of_another_model_is_refused(lm, tmp_path):
    other = LanguageModel(random_rwkv4(n_layer=2, n_embd=16, vocab_size=256, seed=9), None)
    other.prefill([1]).save(tmp_path / "state.safetensors")

    with pytest.raises(StateError, match="must be a state of this model"):
        lm.load_state(tmp_path / "state.safetensors")


def test_a_file_with_the_states_of_several_sequences_is_refused(lm, tmp_path):
    lm.model.zero_state(3).save(tmp_path / "state.safetensors", lm.fingerprint)

    with pytest.raises(StateError, match="must hold the state of one sequence, but it holds 3"):
        lm.load_state(tmp_path / "state.safetensors")


def test_a_model_without_a_tokenizer_takes_tokens_only(lm):
    bare = LanguageModel(lm.model, None)

    assert torch.equal(bare.forward([1, 2])[0], lm.forward([1, 2])[0])
    assert bare.score([1], [2]) == lm.score([1], [2])
    assert_same(bare.prefill([]), lm.prefill(""))
    for call in (bare.prefill, bare.generate):
        with pytest.raises(TokenizerError, match="pass it as `tokenizer`"):
            call("text")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused():
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=100)

    with pytest.raises(ValueError, match="at most the 100 tokens of the model, got 256"):
        LanguageModel(model, load_tokenizer("bytes"))

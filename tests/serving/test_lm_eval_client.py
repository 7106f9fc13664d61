"""lm-eval's `local-completions`: its requests, its reading of our answers, and the whole client."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel

openai_completions = pytest.importorskip("lm_eval.models.openai_completions")


def harness() -> Any:
    """Return the client that makes and reads requests, without the one that sends them."""
    api = object.__new__(openai_completions.LocalCompletionsAPI)
    api.model = "tiny"
    api._max_gen_toks = 5
    return api


def asked(client: httpx.Client, payload: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/v1/completions", json=payload)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_harness_scores_as_the_model_does(client: httpx.Client, lm: LanguageModel):
    contexts, continuations = [[97, 98], [120]], [[99, 100], [121, 122, 123]]
    prompts = [a + b for a, b in zip(contexts, continuations, strict=True)]
    payload = harness()._create_payload(
        prompts, generate=False, gen_kwargs={}, seed=1234, eos="\n\n"
    )
    assert payload["echo"] is True
    answer = asked(client, payload)
    read = openai_completions.LocalCompletionsAPI.parse_logprobs(
        answer, tokens=prompts, ctxlens=[2, 1]
    )
    for (logprob, _), context, continuation in zip(read, contexts, continuations, strict=True):
        assert logprob == pytest.approx(sum(lm.score(context, continuation)), abs=1e-4)


def test_a_harness_sees_that_the_likeliest_tokens_are_greedy(
    client: httpx.Client, lm: LanguageModel
):
    context = [97, 98]
    greedy = list(lm.generate(context, max_tokens=3, temperature=0.0).tokens)
    other = [*greedy[:2], (greedy[2] + 1) % 256]
    prompts = [context + greedy, context + other]
    payload = harness()._create_payload(
        prompts, generate=False, gen_kwargs={}, seed=1234, eos="\n\n"
    )
    read = openai_completions.LocalCompletionsAPI.parse_logprobs(
        asked(client, payload), tokens=prompts, ctxlens=[2, 2]
    )
    assert [is_greedy for _, is_greedy in read] == [True, False]


def test_a_harness_gets_its_texts(client: httpx.Client, lm: LanguageModel):
    payload = harness()._create_payload(
        [[97, 98]],
        generate=True,
        gen_kwargs={"max_gen_toks": 5, "until": ["\n"], "temperature": 0},
        seed=1234,
        eos="\n\n",
    )
    texts = openai_completions.LocalCompletionsAPI.parse_generations(asked(client, payload))
    alone = lm.generate([97, 98], max_tokens=5, temperature=0.0, stop=("\n", "\n\n"))
    assert texts == [alone.text]


@pytest.fixture
def whole(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The client as a user has it, which asks the server for tokens too."""
    pytest.importorskip("tenacity")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    client = openai_completions.LocalCompletionsAPI(
        model="tiny",
        base_url=f"{server}/v1/completions",
        tokenizer_backend="remote",
        custom_prefix_token_id=0,
        batch_size=2,
    )
    yield client
    client.tokenizer.session.close()


def instance(kind: str, *arguments: Any) -> Any:
    api = pytest.importorskip("lm_eval.api.instance")
    return api.Instance(kind, {}, arguments, 0, metadata=("task", 0, 1))


def test_the_whole_client_scores_as_the_model_does(whole: Any, lm: LanguageModel):
    pairs = [("ab", "cd"), ("x", "yz"), ("", "q"), ("a much longer context", " é")]
    found = whole.loglikelihood([instance("loglikelihood", *each) for each in pairs])
    for (logprob, _), (context, continuation) in zip(found, pairs, strict=True):
        before = list(context.encode()) or [0]
        expected = sum(lm.score(before, list(continuation.encode())))
        assert logprob == pytest.approx(expected, abs=1e-4)


def test_the_whole_client_scores_whole_texts(whole: Any, lm: LanguageModel):
    text = "the text of a document"
    (found,) = whole.loglikelihood_rolling([instance("loglikelihood_rolling", text)])
    assert found == pytest.approx(sum(lm.score([0], list(text.encode()))), abs=1e-4)


def test_the_whole_client_gets_its_texts(whole: Any, lm: LanguageModel):
    asked_for = {"until": ["\n"], "max_gen_toks": 5, "temperature": 0}
    found = whole.generate_until([instance("generate_until", "ab", dict(asked_for))])
    alone = lm.generate("ab", max_tokens=5, temperature=0.0, stop=("\n",))
    assert found == [alone.text]

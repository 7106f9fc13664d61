"""lm-eval's `local-completions`: its requests, and its reading of our answers."""

from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel

openai_completions = pytest.importorskip("lm_eval.models.openai_completions")


def harness() -> Any:
    """Return the client that makes and reads requests, without the one that sends them.

    The one that sends them needs packages that only `lm-eval[api]` brings.
    """
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

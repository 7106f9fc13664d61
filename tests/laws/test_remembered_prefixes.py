"""Law: a text is the same to the last bit whether the beginning of its prompt was remembered."""

import random
from collections.abc import Callable

import pytest
import torch

from receptance.inference import (
    Engine,
    LanguageModel,
    LoadedAdapter,
    Output,
    PrefixCache,
    PrefixFolder,
    Request,
    SamplingParams,
    prompt_reader,
)
from receptance.models import RWKV4
from receptance.quantization import FORMATS, quantize_model
from receptance.tokenizer import load_tokenizer
from tests.inference.constraints import OneOf
from tests.inference.engine_runs import run
from tests.random_models import random_adapter, random_rwkv4, with_matrices

V = 256
NOTHING = SamplingParams(max_tokens=0)


def single() -> RWKV4:
    return random_rwkv4(2, 72, V)


def half() -> RWKV4:
    return with_matrices(single(), torch.bfloat16)


def int8() -> RWKV4:
    return quantize_model(random_rwkv4(2, 64, V), FORMATS["int8"])


@pytest.fixture(params=[single, half, int8])
def lm(request, monkeypatch) -> LanguageModel:
    """Remembers within prompts as well, at every 16 tokens."""
    monkeypatch.setattr(prompt_reader, "CHECKPOINT_TOKENS", 16)
    make: Callable[[], RWKV4] = request.param
    return LanguageModel(make(), load_tokenizer("bytes"))


def conversations(n: int, *, seed: int) -> list[list[int]]:
    """Return prompts, each of which goes on from one before or begins anew."""
    numbers = random.Random(seed)
    prompts: list[list[int]] = []
    for _ in range(n):
        before = numbers.choice([[], *prompts])
        kept = before[: numbers.choice([len(before), numbers.randint(0, len(before))])]
        if before and numbers.random() < 0.2:  # once more
            prompts.append(list(before))
            continue
        prompts.append(kept + [numbers.randrange(V) for _ in range(numbers.randint(1, 30))])
    return prompts


def request_for(prompt: list[int], i: int) -> Request:
    params = SamplingParams(
        seed=i,
        max_tokens=i % 4,
        temperature=float(i % 2),
        repetition_penalty=1.0 + (i % 3) / 4,
        logit_bias={0: -100.0},
    )
    return Request(
        prompt,
        params,
        constraint=(lambda: OneOf([b"abcd", b"xyz"], V)) if i % 5 == 0 else None,
        logprobs=2 if i % 3 == 0 else None,
        prompt_logprobs=0 if i % 7 == 0 else None,
        wants_features=i % 2 == 0,
        cache_scope="someone" if i % 4 else "another",
    )


def told(outputs: list[Output]) -> list[object]:
    """Return all that a request was told but what was remembered, and the bits of its state."""
    first, last = outputs[0], outputs[-1]
    assert last.generation is not None, last.error
    assert first.prompt is not None
    features = first.prompt.features
    return [
        [(each.token, each.text, each.logprobs) for each in outputs],
        (first.prompt.n_tokens, first.prompt.logprobs),
        None if features is None else features.tolist(),
        {name: t.tolist() for name, t in last.generation.state.tensors.items()},
        (last.generation.text, last.generation.prompt_tokens),
    ]


@pytest.mark.parametrize("is_spilled", [False, True], ids=["memory", "disk"])
def test_remembering_changes_no_bit(lm, tmp_path, is_spilled):
    prompts = conversations(32, seed=1)
    without = Engine(lm, max_sequences=1, poison=True)
    state_bytes = 5 * 2 * 72 * 4
    cache = PrefixCache(60 * state_bytes)  # forgets some on the way
    if is_spilled:  # all but the last few
        folder = PrefixFolder(
            tmp_path, 40 * 2 * state_bytes, like=lm.zero_state(), fingerprint=lm.fingerprint
        )
        cache = PrefixCache(4 * state_bytes, folder)
    with_cache = Engine(lm, max_sequences=5, chunk_tokens=7, poison=True, prefix_cache=cache)

    requests = [request_for(prompt, i) for i, prompt in enumerate(prompts)]
    expected: list[object] = []
    for each in requests:
        without.add(each)
        (alone,) = run(without).values()
        expected.append(told(alone))
    outputs: dict[int, list[Output]] = {}
    ids: list[int] = []
    for start in range(0, len(requests), 8):
        ids += [with_cache.add(each) for each in requests[start : start + 8]]
        outputs |= run(with_cache)

    assert [told(outputs[id_]) for id_ in ids] == expected
    assert cache.n_hits > 8
    reads = [outputs[id_][0].prompt for id_ in ids]
    assert sum(each.cached_tokens for each in reads if each) > 100
    assert is_spilled or any(each and each.cached_tokens == each.n_tokens for each in reads)
    assert all(not each.cached_tokens for each in reads[::7] if each)  # those with prompt logprobs


def test_adapters_and_models_do_not_share_what_they_remember(tmp_path):
    model = random_rwkv4(2, 72, V)
    random_adapter(model).save(tmp_path / "a.safetensors")
    lm = LanguageModel(model, load_tokenizer("bytes"))
    loaded = lm.load_adapter(tmp_path / "a.safetensors")
    cache = PrefixCache(10**6)
    rounded = LanguageModel(with_matrices(random_rwkv4(2, 72, V), torch.bfloat16), lm.tokenizer)

    def cached(by: LanguageModel, adapter: LoadedAdapter | None = None) -> int:
        engine = Engine(by, prefix_cache=cache)
        engine.add(Request([1, 2, 3, 4], NOTHING, adapter=adapter, cache_scope="a"))
        (outputs,) = run(engine).values()
        assert outputs[0].prompt is not None
        return outputs[0].prompt.cached_tokens

    models = [lm, lm.starting_from(lm.prefill("before")), rounded]
    for first in models:
        cache.clear()
        engine = Engine(first, prefix_cache=cache)
        engine.add(Request([1, 2, 3], NOTHING, cache_scope="a"))
        assert run(engine)
        assert cached(first) == 3
        assert [cached(each) for each in models if each is not first] == [0, 0]
        if first is lm:
            assert [cached(lm, loaded), cached(lm.with_adapter(loaded))] == [0, 0]

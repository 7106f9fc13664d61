"""Law 3 on every device: a text hangs on its request alone, and is that of the CPU.

Most models are float64, whose logits differ between devices and batches in the last bits only, far
less than what decides a token here. On the CPU tokens are chosen as on any other device, so that
this is tested where there is none.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from receptance.inference import Engine, LanguageModel, Request, SamplingParams
from receptance.inference.token_chooser import TokenChooser
from receptance.models import rwkv4_packed
from receptance.models.rwkv4_packed_triton import PackedTritonRWKV4
from receptance.tokenizer import load_tokenizer
from tests.inference.constraints import OneOf
from tests.inference.engine_runs import run, whole
from tests.random_models import random_rwkv4, random_tokens, with_matrices
from tests.tolerances import ALGEBRA

V = 256
KINDS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.8, "top_p": 0.9},
    {"top_k": 12, "min_p": 0.01},
    {"typical_p": 0.9},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "penalty_decay": 0.9},
    {"logit_bias": {7: 3.0, 9: float("-inf")}, "presence_penalty": 0.5},
]


def on(device: str) -> LanguageModel:
    """Return the model on a device."""
    model = random_rwkv4(2, 16, V, dtype=torch.float64).requires_grad_(False)
    return LanguageModel(model.to(device), load_tokenizer("bytes"), chunk_tokens=5)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The devices that texts are written on."""
    return request.param


@pytest.fixture
def lm(device: str, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """The model, whose tokens are chosen where it computes as on no CPU."""
    monkeypatch.setattr(TokenChooser, "choose", TokenChooser._choose_there)
    return on(device)


def wish(row: int) -> Request:
    """Return a request of another kind for each row."""
    params = SamplingParams(seed=row, max_tokens=3 + row % 5, **KINDS[row % len(KINDS)])
    prompt = random_tokens(1, 1 + 2 * row % 11, V, seed=row)[0].tolist()
    begin = (lambda: OneOf([b"abc", b"xy"], V)) if row % 4 == 1 else None
    return Request(prompt, params, constraint=begin, logprobs=2 if row % 3 == 0 else None)


def texts(lm: LanguageModel, n: int, *, max_sequences: int) -> list[list[int | None]]:
    """Return the tokens that n requests get, written at most `max_sequences` at once."""
    engine = Engine(lm, max_sequences=max_sequences, chunk_tokens=4, poison=True)
    ids = [engine.add(wish(row)) for row in range(n)]
    outputs = run(engine)
    assert all(whole(outputs[id_]) for id_ in ids)
    return [[each.token for each in outputs[id_]] for id_ in ids]


@pytest.fixture(scope="module")
def expected() -> list[list[int | None]]:
    """The texts of 21 requests, each alone on the CPU and chosen by definition."""
    return texts(on("cpu"), 21, max_sequences=1)


@pytest.mark.parametrize("max_sequences", [1, 4, 21])
def test_texts_are_those_of_the_cpu_in_any_company(lm, expected, max_sequences):
    assert texts(lm, 21, max_sequences=max_sequences) == expected


def test_texts_of_the_step_in_kernels_are_those_alone(triton_device, monkeypatch):
    """Steps share buffers, of which each sequence keeps its logits; the engine has its thread."""
    monkeypatch.setattr(rwkv4_packed, "native_obstacle", lambda _: "it is not asked")
    monkeypatch.setattr(TokenChooser, "choose", TokenChooser._choose_there)
    model = with_matrices(random_rwkv4(1, 32, V), torch.bfloat16).requires_grad_(False)
    lm = LanguageModel(model.to(triton_device), load_tokenizer("bytes"), chunk_tokens=5)
    n = 2 if triton_device == "cpu" else 12
    with ThreadPoolExecutor(1) as thread:
        alone = thread.submit(texts, lm, n, max_sequences=1).result()
        together = thread.submit(texts, lm, n, max_sequences=n).result()
    assert isinstance(lm.packed, PackedTritonRWKV4)
    assert together == alone


@pytest.mark.gpu
def test_engines_of_one_model_write_in_two_threads_as_in_one():
    model = with_matrices(random_rwkv4(2, 64, V), torch.bfloat16).requires_grad_(False)
    lm = LanguageModel(model.to("cuda"), load_tokenizer("bytes"), chunk_tokens=5)
    expected = texts(lm, 12, max_sequences=4)
    with ThreadPoolExecutor(2) as threads:
        found = [threads.submit(texts, lm, 12, max_sequences=4) for _ in range(2)]
        assert [each.result() for each in found] == [expected] * 2


@pytest.mark.gpu
def test_a_step_waits_for_a_gpu_as_often_whatever_the_number_of_texts():
    model = with_matrices(random_rwkv4(2, 64, V), torch.bfloat16).requires_grad_(False)
    lm = LanguageModel(model.to("cuda"), load_tokenizer("bytes"))
    waits = []
    for n in (1, 7):
        engine = Engine(lm, max_sequences=n)
        for row in range(n):
            kind = KINDS[row % len(KINDS)]
            bias = {**kind.get("logit_bias", {}), 0: float("-inf")}  # no text ends meanwhile
            params = SamplingParams(**{**kind, "logit_bias": bias}, seed=row, max_tokens=40)
            engine.add(Request([1, 2, 3], params))
        for _ in range(n + 3):  # prompts are read, kernels are made ready, and the step is recorded
            engine.step()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                assert len(engine.step()) == n
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchronizing" in str(each.message) for each in told))
    assert waits[0] > 0
    assert waits[1] == waits[0]


def test_a_text_goes_on_on_the_cpu_from_a_state_of_the_device(lm, device, tmp_path):
    half = lm.generate("def main(", max_tokens=6, seed=3)
    half.state.save(tmp_path / "state.safetensors")

    cpu = on("cpu")
    state = cpu.load_state(tmp_path / "state.safetensors")

    _, there = cpu.forward([*b"def main(", *half.tokens])
    for name, tensor in state.tensors.items():
        torch.testing.assert_close(tensor, there.tensors[name], **ALGEBRA)
    back = on(device).load_state(tmp_path / "state.safetensors")
    params = SamplingParams(seed=4, max_tokens=6)
    expected = cpu.generate("x", params, state=state)
    assert lm.generate("x", params, state=back).tokens == expected.tokens


def test_a_family_reads_once_and_who_is_cancelled_changes_nothing_for_the_others(lm):
    params = SamplingParams(seed=5, max_tokens=6, frequency_penalty=0.7)
    engine = Engine(lm, max_sequences=5, chunk_tokens=20, poison=True)
    family = engine.fork(Request("some prompt", params), 3)
    other = engine.add(Request("another", params))
    first = [each for _ in range(4) for each in engine.step()]
    engine.cancel(family[1])
    outputs = run(engine)

    for id_, prompt, seed in ((family[0], "some prompt", 5), (family[2], "some prompt", 7)):
        expected = on("cpu").generate(prompt, params, seed=seed)
        assert whole(outputs[id_]).tokens == expected.tokens
    assert whole(outputs[other]).tokens == on("cpu").generate("another", params).tokens
    assert family[1] not in outputs
    assert any(each.id == family[1] for each in first)

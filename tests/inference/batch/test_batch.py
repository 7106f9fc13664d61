"""Each prompt of a file gets the text that it would get alone, however often one has begun."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from receptance.errors import DataError, TokenizerError
from receptance.inference import LanguageModel, SamplingParams
from receptance.inference.batch import BatchReport, batch, generate_file
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

PARAMS = SamplingParams(max_tokens=6, seed=3)
LINES: list[dict[str, Any]] = [
    {"prompt": "ab", "max_tokens": 40},
    {"prompt": [99], "id": "one", "temperature": 0},
    {"prompt": ""},
    {"prompt": "x" * 30, "max_tokens": 0},
    {"prompt": "ab", "seed": 9, "stop": ["e", " "], "max_tokens": 30},
    {"prompt": "ab", "id": 7},
]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """In float64, where tokens do not hang on rounding."""
    model = random_rwkv4(1, 16, 256, dtype=torch.float64)
    return LanguageModel(model, load_tokenizer("bytes"), chunk_tokens=8)


@pytest.fixture
def prompts(tmp_path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("max_sequences", [1, 2, 16])
def test_each_text_is_the_prompts_own(lm, prompts, tmp_path, max_sequences):
    report = generate_file(lm, prompts, tmp_path / "out", PARAMS, max_sequences=max_sequences)

    found = read(tmp_path / "out")
    for number, (line, document) in enumerate(zip(LINES, found, strict=True), 1):
        options: dict[str, Any] = {"max_tokens": 6, "seed": 2 + number}
        options |= {k: v for k, v in line.items() if k not in ("prompt", "id")}
        options["stop"] = tuple(options.get("stop", ()))
        options["temperature"] = float(options.get("temperature", 1))
        alone = lm.generate(line["prompt"], SamplingParams(**options))
        assert len(document.pop("request")) == 16
        assert document.pop("id", None) == line.get("id")
        assert document == {
            "line": number,
            "text": alone.text,
            "tokens": list(alone.tokens),
            "finish_reason": alone.finish_reason,
            "prompt_tokens": alone.prompt_tokens,
            "generated_tokens": alone.generated_tokens,
            "seed": alone.seed,
        }
    assert report == BatchReport(
        prompts=6,
        resumed=0,
        prompt_tokens=sum(each["prompt_tokens"] for each in found),
        generated_tokens=sum(each["generated_tokens"] for each in found),
    )


def test_a_state_comes_before_every_prompt(lm, tmp_path):
    (tmp_path / "in").write_text('{"prompt": "b"}\n{"prompt": "c"}\n')
    state = lm.prefill("a")

    generate_file(lm, tmp_path / "in", tmp_path / "out", PARAMS, state=state)

    alone = [lm.generate(b, max_tokens=6, seed=s, state=state) for b, s in (("b", 3), ("c", 4))]
    assert [each["text"] for each in read(tmp_path / "out")] == [each.text for each in alone]


def test_it_goes_on_behind_what_was_written(lm, prompts, tmp_path):
    out, moves = tmp_path / "out", []
    generate_file(lm, prompts, out, PARAMS)
    whole = out.read_bytes()
    first, second, *_ = whole.splitlines(keepends=True)
    out.write_bytes(first + second + b'{"line": 3, "req')

    report = generate_file(
        lm, prompts, out, PARAMS, on_progress=lambda done, total: moves.append((done, total))
    )

    assert out.read_bytes() == whole
    assert report.resumed == 2
    assert len(moves) == 4
    assert moves[-1] == (prompts.stat().st_size,) * 2
    assert generate_file(lm, prompts, out, PARAMS).generated_tokens == 0


@pytest.mark.parametrize("what", ["model", "state", "settings", "prompt"])
def test_it_does_not_go_on_with_the_answers_of_another(lm, prompts, tmp_path, what):
    out, state, params, other = tmp_path / "out", None, PARAMS, lm
    prompts.write_text('{"prompt": "a"}\n')
    generate_file(lm, prompts, out, PARAMS)
    before = out.read_bytes()
    if what == "model":
        model = random_rwkv4(1, 16, 256, dtype=torch.float64)
        with torch.no_grad():
            model.head.weight.mul_(2.0)
        other = LanguageModel(model, load_tokenizer("bytes"))
    elif what == "state":
        state = lm.prefill("a")
    elif what == "settings":
        params = SamplingParams(max_tokens=6, seed=4)
    else:
        prompts.write_text('{"prompt": "b"}\n')

    with pytest.raises(DataError, match="out:1: the line must answer the same prompt"):
        generate_file(other, prompts, out, params, state=state)

    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a", "topk": 1}', "did you mean"),
        ('{"prompt": [256]}', "'prompt' must have tokens from 0 to 255, but has 256"),
        ('{"prompt": [-1]}', "'prompt' must have tokens from 0 to 255, but has -1"),
        ('{"prompt": "a", "logit_bias": {"256": 1}}', "'logit_bias' must have tokens from 0 to"),
    ],
)
def test_a_wrong_line_is_told_before_anything_is_written(lm, prompts, tmp_path, line, words):
    with prompts.open("a") as file:
        file.write(f"{line}\n")

    with pytest.raises(DataError, match=f"in.jsonl:7: .*{words}"):
        generate_file(lm, prompts, tmp_path / "out", PARAMS)

    assert (tmp_path / "out").read_bytes() == b""


def test_a_prompt_that_leaves_no_token_is_named_and_those_before_it_stay(lm, prompts, tmp_path):
    penalties = {"presence_penalty": -1e308, "frequency_penalty": -1e308}
    line = {"prompt": "a", "max_tokens": 300, "logit_bias": {"0": -1e9}, **penalties}
    with prompts.open("a") as file:
        file.write(json.dumps(line))

    with pytest.raises(ValueError, match=r"in.jsonl:7: the largest logit must be finite"):
        generate_file(lm, prompts, tmp_path / "out", PARAMS, max_sequences=1)

    assert [each["line"] for each in read(tmp_path / "out")] == [1, 2, 3, 4, 5, 6]


def test_many_short_texts_behind_a_long_one_keep_their_order(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_AHEAD", 4)
    lines = [{"prompt": "a", "max_tokens": 40}] + [{"prompt": "b", "max_tokens": 1}] * 20
    (tmp_path / "in").write_text("\n".join(map(json.dumps, lines)))

    generate_file(lm, tmp_path / "in", tmp_path / "out", PARAMS, max_sequences=2)

    assert [each["line"] for each in read(tmp_path / "out")] == list(range(1, 22))


def test_a_model_without_a_tokenizer_is_refused(lm, prompts, tmp_path):
    with pytest.raises(TokenizerError):
        generate_file(LanguageModel(lm.model, None), prompts, tmp_path / "out")

"""On the same model and text, our perplexity is that of the programs that are not ours."""

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from receptance.checkpoint import convert_model, save_model
from receptance.cli.eval import command
from receptance.models import RWKV4
from receptance.tokenizer import load_tokenizer
from tests.oracles import AuthorsOracle, TransformersOracle
from tests.random_models import random_rwkv4

TEXT = "".join(f"Line {index}: the cat of house {7 * index} sat, naïvely.\n" for index in range(9))


@pytest.fixture(scope="module")
def model() -> RWKV4:
    """A model that finds no text impossible, as a trained one would not."""
    model = random_rwkv4(n_layer=2, n_embd=16, vocab_size=256)
    with torch.no_grad():
        model.head.weight.mul_(0.3)
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("laws") / "model"
    save_model(model, load_tokenizer("bytes"), path)
    return path


@pytest.fixture(params=["sentences", "wikitext"])
def text(request, tmp_path) -> Path:
    path = tmp_path / "text.txt"
    if request.param == "wikitext":
        whole = request.getfixturevalue("shared_data") / "wikitext-2" / "wiki.test.tokens"
        path.write_text(whole.read_text()[:1500])
    else:
        path.write_text(TEXT)
    return path


def ours(folder: Path, text: Path, *options: object) -> dict[str, float]:
    arguments = [folder, "--text", text, "--json", *options]
    return json.loads(CliRunner().invoke(command, [str(each) for each in arguments]).stdout)


def tokens_of(text: Path) -> Tensor:
    """The end of a text before a text, it, and its end."""
    return torch.tensor([[0, *text.read_bytes(), 0]])


def perplexity(logits: Tensor, tokens: Tensor) -> float:
    logprobs = logits.double().log_softmax(-1).gather(1, tokens[0, 1:, None])
    return math.exp(-float(logprobs.mean()))


@pytest.mark.parametrize("oracle", [TransformersOracle, AuthorsOracle])
def test_of_a_whole_text_in_one_forward(model, folder, text, oracle):
    tokens = tokens_of(text)
    logits, _ = oracle(model)(tokens[:, :-1])

    assert ours(folder, text)["perplexity"] == pytest.approx(perplexity(logits, tokens), rel=1e-5)


def test_of_the_exported_model_by_its_own_loss(folder, text, tmp_path):
    transformers = pytest.importorskip("transformers")
    convert_model(folder, tmp_path / "exported", to="huggingface")
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported").eval()
    tokens = tokens_of(text)

    with torch.no_grad():
        loss = exported(tokens, labels=tokens).loss

    assert ours(folder, text)["perplexity"] == pytest.approx(math.exp(float(loss)), rel=1e-5)


def test_of_windows_as_they_are_read_for_transformers(model, folder, text):
    tokens, window, stride = tokens_of(text), 128, 96
    oracle, nats, end_before = TransformersOracle(model), 0.0, 0
    n_targets = tokens.shape[1] - 1
    for begin in range(0, n_targets, stride):
        end = min(begin + window, n_targets)
        part = tokens[:, begin : end + 1]
        logits, _ = oracle(part[:, :-1])
        costs = -logits.double().log_softmax(-1).gather(1, part[0, 1:, None])
        nats += float(costs[end_before - begin :].sum())
        end_before = end
        if end == n_targets:
            break

    found = ours(folder, text, "--window", window, "--stride", stride)

    assert found["tokens"] == n_targets
    assert found["nats"] == pytest.approx(nats, rel=1e-5)
    assert found["nats"] != pytest.approx(ours(folder, text)["nats"], rel=1e-5)

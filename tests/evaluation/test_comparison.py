"""What is told of a quantized model is what the formulas say, however the text is read."""

import math

import numpy as np
import pytest
import torch

from receptance.evaluation import Document, blocks, compare, comparison, documents, measure
from receptance.models import RWKV4
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

BYTES = load_tokenizer("bytes")


def documents_of(lengths: list[int], seed: int = 3) -> list[Document]:
    """Return documents of random bytes, all of them tokens of a vocabulary of 40."""
    generator = np.random.default_rng(seed)
    return [Document(np.append(generator.integers(1, 40, length), 0), length) for length in lengths]


DOCUMENTS = documents_of([0, 1, 40, 7, 7, 100, 2, 0, 33])


@pytest.fixture(scope="module")
def full() -> RWKV4:
    return random_rwkv4(n_layer=2, n_embd=12, vocab_size=40, dtype=torch.float64)


def moved(by: float) -> RWKV4:
    """Return the full model with each weight moved a little."""
    other = random_rwkv4(n_layer=2, n_embd=12, vocab_size=40, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in other.parameters():
            weight += by * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return other


@pytest.fixture(scope="module")
def other() -> RWKV4:
    return moved(0.05)


def set_small_blocks(monkeypatch) -> None:
    """Let the few documents have enough blocks for intervals."""
    for module in (blocks, documents):
        monkeypatch.setattr(module, "BLOCK_BYTES", 8)


def run(full, variants, texts=DOCUMENTS, **options):
    return compare(full, variants, texts, BYTES, **options)


@torch.no_grad()
def log_probabilities(model, texts=DOCUMENTS):
    """Return those of all tokens of each document, and what came."""
    parts, targets = [], []
    for document in texts:
        row = torch.tensor([BYTES.end_of_text, *document.tokens.tolist()])
        parts.append(model(row[None, :-1])[0][0].log_softmax(-1))
        targets.append(row[1:])
    return torch.cat(parts), torch.cat(targets)


def test_every_figure_is_that_of_its_formula(full, other):
    log_p, targets = log_probabilities(full)
    log_q, _ = log_probabilities(other)
    nats, other_nats = (-float(each.gather(1, targets[:, None]).sum()) for each in (log_p, log_q))
    kl = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")

    result = run(full, {"other": other})
    distance = result.distances["other"]

    assert float(result.full.nats.sum()) == pytest.approx(nats, rel=1e-10)
    expected = other_nats / math.log(2) / sum(each.n_bytes for each in DOCUMENTS)
    assert distance.bits_per_byte.value == pytest.approx(expected, rel=1e-10)
    assert distance.difference_percent.value == pytest.approx(100 * (other_nats / nats - 1))
    assert distance.kl_nats.value == pytest.approx(float(kl), rel=1e-8)
    same = (log_p.argmax(-1) == log_q.argmax(-1)).double().mean()
    assert 0.5 < float(same) < 1
    assert distance.top_1_agreement.value == pytest.approx(float(same))


def test_what_it_costs_the_full_model_is_what_is_measured(full, other, monkeypatch):
    set_small_blocks(monkeypatch)
    found, measured = run(full, {"other": other}).full, measure(full, DOCUMENTS, BYTES).blocks

    assert found.nats.tolist() == pytest.approx(measured.nats.tolist(), rel=1e-10)
    assert found.tokens.tolist() == measured.tokens.tolist()
    assert found.bytes.tolist() == measured.bytes.tolist()


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3, "chunk": 7}])
def test_how_the_text_is_read_changes_nothing(full, other, options, monkeypatch):
    set_small_blocks(monkeypatch)
    expected = run(full, {"other": other}).distances["other"]
    monkeypatch.setattr(comparison, "ROWS_OF_LOGITS", 5)

    found = run(full, {"other": other}, **options).distances["other"]

    for one, two in zip(found, expected, strict=True):
        assert one == pytest.approx(two, rel=1e-8)


def test_the_model_itself_is_at_no_distance(full, monkeypatch):
    set_small_blocks(monkeypatch)

    distance = run(full, {"same": full}).distances["same"]

    assert distance.difference_percent == (0.0, 0.0, 0.0)
    assert distance.kl_nats == (0.0, 0.0, 0.0)
    assert distance.top_1_agreement == (1.0, 1.0, 1.0)


def test_each_form_is_compared_by_itself_over_the_same_draws(full, other, monkeypatch):
    set_small_blocks(monkeypatch)
    far = moved(0.1)

    both = run(full, {"near": other, "far": far}).distances

    assert both == {
        **run(full, {"near": other}).distances,
        **run(full, {"far": far}).distances,
    }
    assert both["near"].kl_nats.value < both["far"].kl_nats.value


def test_too_short_a_text_has_no_interval(full, other):
    distance = run(full, {"other": other}).distances["other"]  # nine documents, nine blocks

    assert all(each.low is None and each.high is None for each in distance)


def test_the_interval_covers_the_value_of_a_longer_text_from_the_same_source(full, other):
    truth = run(full, {"other": other}, documents_of([20_000], seed=1)).distances["other"]
    covered = 0
    for seed in range(12):
        texts = documents_of([120] * 30, seed=100 + seed)
        value, low, high = run(full, {"other": other}, texts).distances["other"].kl_nats
        assert low is not None
        assert high is not None
        assert low < value < high
        covered += low <= truth.kl_nats.value <= high
    # Of 12 intervals of 95 % more than 3 miss with a probability of 1 in 400.
    assert covered >= 9

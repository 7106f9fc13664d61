"""What is told of a quantized model is what the formulas say, however the text is read."""

import math

import pytest
import torch

from receptance.evaluation import compare, comparison, held_out_documents, score_documents
from receptance.models import RWKV4
from tests.evaluation.splits import END_OF_TEXT, LENGTHS, make_split
from tests.random_models import random_rwkv4

DOCUMENTS = held_out_documents(make_split(LENGTHS))


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


def run(full, variants, documents=DOCUMENTS, **options):
    return compare(full, variants, documents, end_of_text=END_OF_TEXT, **options)


@torch.no_grad()
def log_probabilities(model, documents=DOCUMENTS):
    """Return those of all tokens of each document, and what came."""
    parts, targets = [], []
    for document in documents:
        row = torch.tensor([END_OF_TEXT, *document.tokens.tolist()])
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

    assert result.full.nats == pytest.approx(nats, rel=1e-10)
    expected = other_nats / math.log(2) / (3 * sum(LENGTHS))
    assert distance.bits_per_byte.value == pytest.approx(expected, rel=1e-10)
    assert distance.difference_percent.value == pytest.approx(100 * (other_nats / nats - 1))
    assert distance.kl_nats.value == pytest.approx(float(kl), rel=1e-8)
    same = (log_p.argmax(-1) == log_q.argmax(-1)).double().mean()
    assert 0.5 < float(same) < 1
    assert distance.top_1_agreement.value == pytest.approx(float(same))


def test_the_full_score_is_that_of_the_one_scorer(full, other):
    assert run(full, {"other": other}).full.nats == pytest.approx(
        score_documents(full, DOCUMENTS, end_of_text=END_OF_TEXT).nats, rel=1e-10
    )


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3, "chunk": 7}])
def test_how_the_text_is_read_changes_nothing(full, other, options, monkeypatch):
    monkeypatch.setattr(comparison, "BLOCK_TOKENS", 8)
    expected = run(full, {"other": other}).distances["other"]
    monkeypatch.setattr(comparison, "ROWS_OF_LOGITS", 5)

    found = run(full, {"other": other}, **options).distances["other"]

    for one, two in zip(found, expected, strict=True):
        assert one == pytest.approx(two, rel=1e-8)


def test_the_model_itself_is_at_no_distance(full, monkeypatch):
    monkeypatch.setattr(comparison, "BLOCK_TOKENS", 8)

    distance = run(full, {"same": full}).distances["same"]

    assert distance.difference_percent == (0.0, 0.0, 0.0)
    assert distance.kl_nats == (0.0, 0.0, 0.0)
    assert distance.top_1_agreement == (1.0, 1.0, 1.0)


def test_each_form_is_compared_by_itself_over_the_same_draws(full, other, monkeypatch):
    monkeypatch.setattr(comparison, "BLOCK_TOKENS", 8)
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
    truth = run(full, {"other": other}, held_out_documents(make_split([30_000], seed=1)))
    covered = 0
    for seed in range(20):
        split = make_split([200] * 30, seed=100 + seed)
        value, low, high = (
            run(full, {"other": other}, held_out_documents(split)).distances["other"].kl_nats
        )
        assert low is not None
        assert high is not None
        assert low < value < high
        covered += low <= truth.distances["other"].kl_nats.value <= high
    # Of 20 intervals of 95 % fewer than 15 miss with a probability of 1 in 400,000.
    assert covered >= 15

"""A text costs what its documents cost one by one, however they are read side by side."""

import math

import numpy as np
import pytest
import torch

from receptance.data import Split
from receptance.evaluation import Score, held_out_documents, score_documents
from receptance.models import RWKV4
from tests.evaluation.splits import END_OF_TEXT, LENGTHS, make_split
from tests.random_models import random_rwkv4


@pytest.fixture(scope="module")
def model() -> RWKV4:
    return random_rwkv4(n_layer=2, n_embd=12, vocab_size=40, dtype=torch.float64)


def naive_nats(model: RWKV4, split: Split, n_documents: int) -> float:
    nats = 0.0
    for index in range(n_documents):
        row = [END_OF_TEXT, *split.document(index).tolist(), END_OF_TEXT]
        logits = model(torch.tensor([row[:-1]]))[0][0]
        logprobs = logits - torch.logsumexp(logits, -1, keepdim=True)
        nats -= sum(logprobs[t, token].item() for t, token in enumerate(row[1:]))
    return nats


def test_it_is_the_sum_over_the_documents_each_from_the_zero_state(model):
    split = make_split(LENGTHS)

    score = score_documents(model, held_out_documents(split), end_of_text=END_OF_TEXT)

    assert score.n_tokens == sum(LENGTHS) + len(LENGTHS) == split.n_tokens
    assert score.n_bytes == 3 * sum(LENGTHS)
    assert score.nats == pytest.approx(naive_nats(model, split, len(LENGTHS)), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
@pytest.mark.parametrize("chunk", [1, 7, 41, 101, 4096])
def test_neither_batch_nor_chunk_changes_it(model, batch_size, chunk):
    split = make_split(LENGTHS)
    expected = naive_nats(model, split, len(LENGTHS))

    score = score_documents(
        model,
        held_out_documents(split),
        end_of_text=END_OF_TEXT,
        batch_size=batch_size,
        chunk=chunk,
    )

    assert score.nats == pytest.approx(expected, rel=1e-10)
    assert score.n_tokens == split.n_tokens


def test_the_order_of_the_documents_changes_nothing(model):
    split = make_split(LENGTHS)
    stream, documents = [], []
    for index in reversed(range(len(LENGTHS))):
        documents.append((len(stream), 3 * LENGTHS[index]))
        stream += [*split.document(index).tolist(), END_OF_TEXT]
    turned = Split(
        path=split.path,
        tokens=np.array(stream, np.uint16),
        documents=np.array(documents, np.uint64),
        n_bytes=split.n_bytes,
    )

    one = score_documents(model, held_out_documents(split), end_of_text=END_OF_TEXT)
    other = score_documents(model, held_out_documents(turned), end_of_text=END_OF_TEXT)

    assert other.nats == pytest.approx(one.nats, rel=1e-12)


def test_an_empty_document_costs_its_end(model):
    score = score_documents(model, held_out_documents(make_split([0])), end_of_text=END_OF_TEXT)

    logits = model(torch.tensor([[END_OF_TEXT]]))[0][0, 0]
    assert score.nats == pytest.approx(-logits.log_softmax(-1)[END_OF_TEXT].item(), rel=1e-12)
    assert (score.n_tokens, score.n_bytes) == (1, 0)


def test_the_model_and_the_random_state_are_left_alone(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)

    score_documents(model, held_out_documents(make_split(LENGTHS)), end_of_text=END_OF_TEXT)

    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in model.parameters())


def test_equally_likely_tokens_cost_the_logarithm_of_their_number():
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=40)
    with torch.no_grad():
        model.head.weight.zero_()

    score = score_documents(model, held_out_documents(make_split([4, 8])), end_of_text=END_OF_TEXT)

    assert score.perplexity == pytest.approx(40, rel=1e-6)
    assert score.bits_per_token == pytest.approx(math.log2(40), rel=1e-6)
    assert score.bits_per_byte == pytest.approx(math.log2(40) * 14 / 36, rel=1e-6)


def test_the_units_are_those_of_the_formulas():
    score = Score(nats=10 * math.log(2), n_tokens=5, n_bytes=20)

    assert score.bits_per_byte == pytest.approx(0.5, rel=1e-15)
    assert score.bits_per_token == pytest.approx(2.0, rel=1e-15)
    assert score.perplexity == pytest.approx(4.0, rel=1e-15)


def test_only_the_tokens_that_count_are_scored(model):
    split = make_split(LENGTHS)
    mask = (np.arange(split.n_tokens) % 3 == 0).astype(np.uint8)
    documents = [
        each._replace(mask=mask[int(begin) :][: len(each.tokens)], n_bytes=5)
        for each, begin in zip(held_out_documents(split), split.documents[:, 0], strict=True)
    ]

    nats, begin = 0.0, 0
    for index in range(split.n_documents):
        row = [END_OF_TEXT, *split.document(index).tolist(), END_OF_TEXT]
        logprobs = model(torch.tensor([row[:-1]]))[0][0].log_softmax(-1)
        counted = mask[begin : begin + len(row) - 1]
        nats -= sum(logprobs[t, row[t + 1]].item() for t in np.flatnonzero(counted).tolist())
        begin += len(row) - 1

    for chunk in (2, 512):
        score = score_documents(model, documents, end_of_text=END_OF_TEXT, chunk=chunk)
        assert score.nats == pytest.approx(nats, rel=1e-10)
        assert score.n_tokens == int(mask.sum())
        assert score.n_bytes == 5 * len(LENGTHS)


def test_each_document_may_begin_with_a_state(model):
    split = make_split(LENGTHS)
    documents = held_out_documents(split)
    _, state = model(torch.tensor([[5, 6, 7]]))

    score = score_documents(
        model, documents, end_of_text=END_OF_TEXT, batch_size=3, chunk=7, start=state
    )

    nats = 0.0
    for index in range(len(LENGTHS)):
        row = torch.tensor([[END_OF_TEXT, *split.document(index).tolist(), END_OF_TEXT]])
        logprobs = model(row[:, :-1], state)[0].log_softmax(-1)
        nats -= logprobs.gather(2, row[:, 1:, None]).sum().item()
    assert score.nats == pytest.approx(nats, rel=1e-12)
    assert score.nats != pytest.approx(naive_nats(model, split, len(LENGTHS)), rel=1e-3)

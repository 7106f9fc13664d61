"""A measurement is the sum of what each token costs, found token by token."""

import math

import numpy as np
import pytest
import torch

from receptance.evaluation import Document, measure, measurement, score_documents
from receptance.evaluation.reading import windows
from receptance.models import RWKV4
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

BYTES = load_tokenizer("bytes")


def documents_of(lengths: list[int]) -> list[Document]:
    generator = np.random.default_rng(3)
    made = []
    for length in lengths:
        tokens = np.append(generator.integers(32, 127, length), 0).astype(np.uint32)
        made.append(Document(tokens, length, words=np.ones(max(1, -(-length // 1024)), np.int64)))
    return made


DOCUMENTS = documents_of([1, 40, 3, 100, 7, 64])
SHORT = DOCUMENTS[:3]


@pytest.fixture(scope="module")
def model() -> RWKV4:
    return random_rwkv4(n_layer=2, n_embd=12, vocab_size=256, dtype=torch.float64)


def naive_costs(model, documents, state=None):
    """Return the cost of each token, and its place, from one forward over each document."""
    found = []
    for document in documents:
        row = [0, *document.tokens.tolist()]
        logprobs = model(torch.tensor([row[:-1]]), state)[0][0].log_softmax(-1)
        found += [(at + 1, -logprobs[at, token].item()) for at, token in enumerate(row[1:])]
    return found


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"batch_size": 4, "chunk": 7}])
def test_the_sums_are_those_over_all_tokens_however_they_are_read(model, options):
    costs = naive_costs(model, DOCUMENTS)

    found = measure(model, DOCUMENTS, BYTES, **options)

    assert float(found.blocks.nats.sum()) == pytest.approx(sum(cost for _, cost in costs))
    assert found.blocks.tokens.tolist() == [2, 41, 4, 101, 8, 65]
    assert found.blocks.bytes.tolist() == [1, 40, 3, 100, 7, 64]
    score = score_documents(model, DOCUMENTS, end_of_text=0)
    assert found.blocks.figures()["bits_per_byte"].value == pytest.approx(score.bits_per_byte)
    assert found.blocks.figures()["perplexity"].value == pytest.approx(score.perplexity)


@pytest.mark.parametrize("window", [None, 16])
def test_each_bin_has_the_mean_of_its_places(model, window):
    costs = naive_costs(model, DOCUMENTS)

    found = measure(model, DOCUMENTS, BYTES, window=window).by_position()

    assert [(each.first, each.last) for each in found] == [
        (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, 127)
    ]  # fmt: skip
    for each in found:
        of_bin = [cost for place, cost in costs if each.first <= place <= each.last]
        assert each.tokens == len(of_bin)
        if window is None or each.last <= window:
            assert each.nats.value == pytest.approx(sum(of_bin) / len(of_bin), rel=1e-10)
        assert each.nats.low is None  # six documents, six blocks


def test_what_is_not_asked_for_by_position_is_not_drawn(model, monkeypatch):
    monkeypatch.setattr(measurement, "totals", None)

    measure(model, SHORT, BYTES)


def test_bins_that_are_in_enough_blocks_have_intervals(model):
    found = measure(model, documents_of([20] * 8 + [3, 3, 30]), BYTES).by_position()

    for each, has_interval in zip(found, [True, True, True, False, False], strict=True):
        value, low, high = each.nats
        assert (low is not None) == (high is not None) == has_interval
        assert low is None or high is None or low < value < high


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (8, 3), (16, None), (500, 500)])
def test_windows_cost_what_a_forward_over_each_costs(model, window, stride):
    nats = 0.0
    for index, begin, end, counted in windows(SHORT, window, stride or window // 2):
        row = [0, *SHORT[index].tokens.tolist()][begin : end + 1]
        logprobs = model(torch.tensor([row[:-1]]))[0][0].log_softmax(-1)
        nats -= sum(logprobs[t, row[t + 1]].item() for t in range(counted - begin, end - begin))

    found = measure(model, SHORT, BYTES, window=window, stride=stride, chunk=5)

    assert float(found.blocks.nats.sum()) == pytest.approx(nats, rel=1e-10)
    whole = sum(cost for _, cost in naive_costs(model, SHORT))
    assert (nats == pytest.approx(whole, rel=1e-6)) == (window == 500)


def test_each_document_and_each_window_begins_with_the_given_state(model):
    _, state = model(torch.tensor([[5, 6, 7]]))
    expected = sum(cost for _, cost in naive_costs(model, SHORT, state))

    for window in (None, 500):
        found = measure(model, SHORT, BYTES, start=state, window=window)
        assert float(found.blocks.nats.sum()) == pytest.approx(expected, rel=1e-10)


def test_what_cannot_be_measured_is_refused(model):
    masked = SHORT[0]._replace(mask=np.ones(2, np.uint8))
    cases: list[tuple[list[Document], dict[str, int], str]] = [
        ([masked], {}, "but 1 have masks"),
        ([], {}, "`documents` must hold at least one"),
        (SHORT, {"stride": 3}, "`stride` must be given with `window`, got 3 alone"),
        (SHORT, {"window": 4, "stride": 5}, "from 1 to the window of 4 tokens, got 5"),
    ]
    for arguments, options, words in cases:
        with pytest.raises(ValueError, match=words):
            measure(
                model,
                arguments,
                BYTES,
                window=options.get("window"),
                stride=options.get("stride"),
            )


def test_a_perplexity_by_words_beyond_all_numbers_is_infinite(model):
    found = measure(model, documents_of([400]), BYTES).blocks.figures()

    assert found["word_perplexity"].value == math.inf
    assert math.isfinite(found["perplexity"].value)

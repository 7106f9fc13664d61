"""Passages hold every token of every document once, behind the tokens before it."""

import pytest
import torch

from receptance.evaluation import held_out_documents
from receptance.evaluation.reading import Reader, passages, windows
from tests.evaluation.splits import END_OF_TEXT, LENGTHS, make_split
from tests.random_models import random_rwkv4

DOCUMENTS = held_out_documents(make_split(LENGTHS))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("chunk", [1, 7, 101, 4096])
def test_the_targets_of_a_document_are_its_tokens_and_it_is_fed_those_before(batch_size, chunk):
    targets = {index: [] for index in range(len(DOCUMENTS))}
    fed = {index: [] for index in range(len(DOCUMENTS))}

    for passage in passages(DOCUMENTS, end_of_text=END_OF_TEXT, batch_size=batch_size, chunk=chunk):
        assert passage.tokens.shape == passage.targets.shape == passage.is_counted.shape
        assert passage.tokens.shape[0] <= batch_size
        assert passage.tokens.shape[1] <= chunk
        for row, index in enumerate(passage.documents):
            is_counted = passage.is_counted[row]
            places = passage.places[row, is_counted].tolist()
            assert places == list(range(len(targets[index]), len(targets[index]) + len(places)))
            assert passage.is_start == (passage.places[row, 0] == 0)
            targets[index] += passage.targets[row, is_counted].tolist()
            fed[index] += passage.tokens[row, is_counted].tolist()

    for index, document in enumerate(DOCUMENTS):
        assert targets[index] == document.tokens.tolist()
        assert fed[index] == [END_OF_TEXT, *document.tokens.tolist()[:-1]]


def test_a_reader_goes_on_from_passage_to_passage_and_begins_anew_with_other_documents():
    model = random_rwkv4(dtype=torch.float64)
    reader = Reader(model)

    for passage in passages(DOCUMENTS, end_of_text=END_OF_TEXT, batch_size=1, chunk=9):
        logits = reader.logits(reader.features(passage))
        (index,) = passage.documents
        row = [END_OF_TEXT, *DOCUMENTS[index].tokens.tolist()]
        begin = int(passage.places[0, 0])
        expected = model(torch.tensor([row[: begin + len(logits)]]))[0][0, begin:]
        assert torch.allclose(logits, expected, rtol=1e-10)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (5, 1), (5, 3), (5, 5), (16, 8), (200, 7)])
def test_in_windows_each_token_counts_once_and_has_enough_before_it(length, stride):
    seen = []
    for index, begin, end, counted in windows(DOCUMENTS, length, stride):
        assert begin <= counted < end <= begin + length
        assert counted < length or counted - begin + 1 >= length - stride + 1
        assert counted >= length or begin == 0
        seen += [(index, place) for place in range(counted, end)]

    assert seen == [(i, at) for i, each in enumerate(DOCUMENTS) for at in range(len(each.tokens))]


@pytest.mark.parametrize("stride", [0, 6])
def test_a_stride_that_would_leave_tokens_out_is_refused(stride):
    with pytest.raises(ValueError, match=f"from 1 to the window of 5 tokens, got {stride}"):
        windows(DOCUMENTS, 5, stride)


@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 100), (4, 3)])
def test_each_window_begins_with_the_zero_state_and_the_token_before_it(batch_size, chunk):
    model = random_rwkv4(dtype=torch.float64)
    reader, few = Reader(model), DOCUMENTS[2:5]
    spans = windows(few, 10, 4)
    found = {}
    for passage in passages(
        few, end_of_text=END_OF_TEXT, batch_size=batch_size, chunk=chunk, spans=spans
    ):
        rows = torch.tensor(passage.documents)[:, None].expand_as(passage.places)
        counted = passage.is_counted
        pairs = zip(rows[counted].tolist(), passage.places[counted].tolist(), strict=True)
        found |= dict(zip(pairs, reader.nats(passage).tolist(), strict=True))

    for index, begin, end, counted in spans:
        row = [END_OF_TEXT, *few[index].tokens.tolist()]
        logprobs = model(torch.tensor([row[begin:end]]))[0][0].log_softmax(-1)
        for place in range(counted, end):
            expected = -logprobs[place - begin, row[place + 1]].item()
            assert found[index, place] == pytest.approx(expected, rel=1e-10)
    assert len(found) == sum(len(each.tokens) for each in few)

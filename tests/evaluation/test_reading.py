"""Passages hold every token of every document once, behind the tokens before it."""

import pytest
import torch

from receptance.evaluation import held_out_documents
from receptance.evaluation.reading import Reader, passages
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
            assert len(targets[index]) == passage.begin or not is_counted.any()
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
        end = passage.begin + len(logits)
        expected = model(torch.tensor([row[:end]]))[0][0, passage.begin :]
        assert torch.allclose(logits, expected, rtol=1e-10)

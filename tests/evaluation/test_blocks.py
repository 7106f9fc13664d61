"""Blocks are the same bytes for every tokenizer, and their figures are those of the formulas."""

import math

import numpy as np
import pytest
import torch

from receptance.evaluation import blocks, read_documents
from receptance.evaluation.blocks import BlockSums, TextBlocks
from receptance.evaluation.documents import Document
from receptance.evaluation.reading import passages
from receptance.tokenizer import load_tokenizer, train_bpe

BYTES = load_tokenizer("bytes")
TEXT = "".join(f"Zeile {index}: schöne Größe, 42 × 17.\n" for index in range(100))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Documents of one text, by bytes and by a vocabulary of its own."""
    path = tmp_path_factory.mktemp("blocks") / "text"
    path.write_text(TEXT)
    bpe = train_bpe([TEXT], 300)
    files = [path, path]
    return [(read_documents(files, tokenizer), tokenizer) for tokenizer in (BYTES, bpe)]


def places_of(text_blocks, documents):
    """Return the block of every token, document by document."""
    (passage,) = passages(documents, end_of_text=0, batch_size=9, chunk=1 << 20)
    found = text_blocks.of(passage).tolist()
    first = len(documents[0].tokens)
    return found[:first], found[first:]


def test_a_token_is_in_the_block_of_its_first_byte(pair):
    for documents, tokenizer in pair:
        n_bytes = len(TEXT.encode())
        n_blocks = math.ceil(n_bytes / 1024)
        for number, found in enumerate(places_of(TextBlocks(documents, tokenizer), documents)):
            begin = 0
            for token, block in zip(documents[number].tokens.tolist(), found, strict=True):
                assert block == number * n_blocks + min(begin, n_bytes - 1) // 1024
                begin += len(tokenizer.token_bytes(token))
            assert begin == n_bytes


def test_bytes_and_words_do_not_depend_on_the_tokenizer(pair, monkeypatch):
    for most in (1024, 3):
        monkeypatch.setattr(blocks, "MAX_BLOCKS", most)
        one, other = (TextBlocks(*each) for each in pair)

        assert len(one) == min(most, 2 * math.ceil(len(TEXT.encode()) / 1024))
        assert torch.equal(one.bytes, other.bytes)
        assert torch.equal(one.words, other.words)
        assert one.bytes.sum() == 2 * len(TEXT.encode())
        assert one.words.sum() == 2 * (len(TEXT.split()) + 1)


def test_a_long_text_has_its_blocks_joined(pair, monkeypatch):
    documents, _ = pair[0]
    apart = places_of(TextBlocks(documents, BYTES), documents)
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 4)

    joined = places_of(TextBlocks(documents, BYTES), documents)

    n_joined = math.ceil((1 + apart[1][-1]) / 4)
    for one, other in zip(joined, apart, strict=True):
        assert one == [block // n_joined for block in other]


def test_a_document_without_text_has_a_block_for_its_end():
    documents = [Document(np.zeros(1, np.uint32), 0), Document(np.array([65, 0], np.uint32), 1)]

    found = TextBlocks(documents, BYTES)

    assert found.bytes.tolist() == [0, 1]
    assert places_of(found, documents) == ([0], [1, 1])


def test_the_figures_are_those_of_the_formulas():
    nats, tokens, n_bytes, words = torch.tensor([7.0, 5.0, 40.0, 2.0], dtype=torch.float64)
    sums = BlockSums(
        nats=nats.repeat(12), tokens=tokens.repeat(12), bytes=n_bytes.repeat(12),
        words=words.repeat(12),
    )  # fmt: skip

    found = sums.figures()

    expected = {
        "bits_per_byte": 7 / math.log(2) / 40,
        "bits_per_token": 7 / math.log(2) / 5,
        "perplexity": math.exp(7 / 5),
        "word_perplexity": math.exp(7 / 2),
    }
    # Blocks that are all alike leave no doubt.
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected)
    assert all(each.low == pytest.approx(each.value) for each in found.values())

"""Blocks are the same bytes for every tokenizer, and their figures are those of the formulas."""

import math
import tracemalloc

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


def peak_of(path, content):
    """Return the most memory held while a text is read and its tokens are counted."""
    path.write_text(content)
    tracemalloc.start()
    documents = read_documents([path], BYTES)
    text_blocks = TextBlocks(documents, BYTES)
    text_blocks.of(next(passages(documents, end_of_text=0, batch_size=4, chunk=64)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.unhooked
def test_a_document_more_needs_few_bytes_beside_its_tokens(tmp_path):
    line = '{"text": "fifteen letters"}\n'
    sizes = [peak_of(tmp_path / "a.jsonl", line * n) for n in (1_000, 5_000)]

    assert (sizes[1] - sizes[0]) / 4_000 < 16 * 4 + 160


def test_a_token_more_needs_four_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "TOKENS_AT_ONCE", 1 << 16)
    sizes = [peak_of(tmp_path / "a", "word " * n) for n in (300_000, 900_000)]

    assert (sizes[1] - sizes[0]) / (5 * 600_000) < 4.5


@pytest.mark.parametrize("at_once", [1, 700, 5000])
def test_how_many_tokens_are_counted_at_once_changes_nothing(pair, monkeypatch, at_once):
    documents, tokenizer = pair[1]
    expected = places_of(TextBlocks(documents, tokenizer), documents)
    monkeypatch.setattr(blocks, "TOKENS_AT_ONCE", at_once)

    assert places_of(TextBlocks(documents, tokenizer), documents) == expected


def test_there_must_be_a_document():
    with pytest.raises(ValueError, match="`documents` must hold at least one"):
        TextBlocks([], BYTES)


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

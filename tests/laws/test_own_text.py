"""A user's own text, however little or odd, is trained on, or what is wrong with it is said.

Each test answers complaints that users of other trainers wrote down.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from receptance.cli.training_run import run_training
from receptance.data import Batches, TokenStore, prepare
from receptance.errors import DataError
from receptance.inference import load
from receptance.tokenizer import train_bpe
from receptance.training import read_config

RUN = """
name = "own"
model = { n_layer = 1, n_embd = 16 }
data = { store = "store", ctx_len = 16, batch_size = 8 }
training = { steps = 6, precision = "float32" }
every = { checkpoint_steps = 0, sample_steps = 0, validation_steps = 6 }
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path


def train(place: Path, *settings: str):
    config = read_config(place / "run.toml", list(settings))
    return run_training(config, place / "run", resume="never")


@pytest.mark.parametrize("n_bytes", range(2, 40))
def test_no_number_is_to_be_found_by_hand_for_a_text_of_any_size(place, n_bytes):
    """BlinkDL/RWKV-LM#216: an assertion about a magic prime, which the author had to compute."""
    (place / "text.txt").write_text("x" * n_bytes)
    store = prepare([place / "text.txt"], "bytes", place / "store", valid_fraction=0.0)
    batches = Batches(
        store.train, ctx_len=2, seed=0, end_of_text=store.end_of_text, vocab_size=store.vocab_size
    )
    samples = batches.samples(0, batches.n_samples)
    read = Counter((each.first_token + t) % (n_bytes + 1) for each in samples for t in range(2))
    assert set(read.values()) == {1}
    assert len(read) >= n_bytes - 1


@pytest.mark.parametrize("n_bytes", [52, 97, 160])
def test_no_prime_is_to_be_found_by_hand_in_the_order_of_the_authors(place, n_bytes):
    """BlinkDL/RWKV-LM#216: there it must be looked up for each text, and for each context."""
    (place / "text.txt").write_text("x" * n_bytes)
    prepare([place / "text.txt"], "bytes", place / "store", valid_fraction=0.0)
    settings = "data.order=authors", "every.validation_steps=0"
    with pytest.raises(DataError, match="must have at least"):
        train(place, *settings, "data.ctx_len=90")
    assert train(place, *settings).step == 6


def test_a_text_shorter_than_a_batch_and_a_run_is_trained_on(place):
    """Joluck/RWKV-PEFT#52, #65: a crash where the data are fewer than batch size times steps."""
    (place / "text.txt").write_text("one document of few words")
    store = prepare([place / "text.txt"], "bytes", place / "store", valid_fraction=0.2)
    assert store.train.n_tokens < 2 * 16
    assert train(place).step == 6


@pytest.mark.parametrize("name", ["text.txt", "text.jsonl"])
def test_a_text_shorter_than_a_context_is_said_to_be(place, name):
    """Joluck/RWKV-PEFT#52: a crash where the data are shorter than the context."""
    (place / name).write_text("few" if name == "text.txt" else '\n{"text": "few"}\n\n')
    prepare([place / name], "bytes", place / "store", valid_fraction=0.0)
    words = "must have at least 17 tokens for one sample of ctx_len=16, but has 4; use a smaller c"
    with pytest.raises(DataError, match=words):
        train(place)
    assert train(place, "data.ctx_len=3", "every.validation_steps=0").step == 6


def test_one_pair_is_trained_on(place):
    (place / "pair.jsonl").write_text(json.dumps({"prompt": "What is it? " * 3, "answer": "one"}))
    prepare([place / "pair.jsonl"], "bytes", place / "store", valid_fraction=0.0)
    assert train(place, "data.ctx_len=8").step == 6


@pytest.mark.parametrize("method", ["full", "lora", "state"])
def test_one_pair_is_enough_to_fine_tune_on(place, method):
    """Joluck/RWKV-PEFT#52, #65: it crashed in fine-tuning, where texts are short."""
    (place / "pair.jsonl").write_text(json.dumps({"prompt": "What is it? " * 3, "answer": "one"}))
    prepare([place / "pair.jsonl"], "bytes", place / "store", valid_fraction=0.0)
    (place / "run").rename(train(place).model_folder.parents[1] / "base")
    begin = "training.init_from=base/model", f"finetune.method={method}"
    assert train(place, *begin).step == 6


def test_many_epochs_of_a_text_write_that_text(place):
    """BlinkDL/RWKV-LM#110: a thousand epochs, and what came out was garbage."""
    text = "the quick brown fox jumps over the lazy dog. "
    (place / "text.txt").write_text(text)
    prepare([place / "text.txt"], "train:270", place / "store", valid_fraction=0.0)
    longer = "training.steps=100", "optimizer.lr=1e-2", "every.validation_steps=0"
    lm = load(train(place, *longer, "model.n_embd=32").model_folder)
    written = lm.generate("the quick", max_tokens=60, temperature=0.0)
    assert written.text.startswith(text.removeprefix("the quick").rstrip())


def test_the_tokenizer_of_a_text_goes_with_it_to_the_model(place):
    """BlinkDL/RWKV-LM#49, #87, #110: which vocabulary for my text; garbage by another one."""
    text = "the cat sat on the mat and the dog ate the hat. " * 9
    (place / "text.txt").write_text(text)
    store = prepare([place / "text.txt"], "train:280", place / "store")
    lm = load(train(place).model_folder)
    assert lm.tokenizer.sha256 == store.tokenizer.sha256
    assert lm.tokenizer.decode(store.train.document(0).tolist()) == text[: store.train.n_bytes]
    other = train_bpe([text[::-1]], 280)
    with pytest.raises(DataError, match=r"use the tokenizer of the store, or prepare the text aga"):
        TokenStore.open(place / "store").require_tokenizer(other)


def test_an_empty_text_is_said_to_be(place):
    (place / "text.jsonl").write_text('\n{"text": ""}\n{"text": " "}\n')
    with pytest.raises(
        DataError, match=r"must hold some text, but .* 1 files with 3 blank documen"
    ):
        prepare([place / "text.jsonl"], "bytes", place / "store")
    assert not (place / "store").exists()

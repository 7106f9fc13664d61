"""From text to a model that writes, with every tokenizer, and at the paper's smallest size."""

from pathlib import Path

import pytest
import torch

from receptance.checkpoint import save_model
from receptance.cli.training_run import run_training
from receptance.data import Batch, prepare
from receptance.inference import load
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import BytesTokenizer
from receptance.training import Objective, build_optimizer, parse_config, training_step

TEXTS = [f"the cat number {index} sat on the mat and looked.\n" * 40 for index in range(8)]


def world_vocabulary(folder: Path) -> Path:
    """Write a World vocabulary of the single bytes and of some words."""
    words = [b"the ", b"cat ", b"sat ", b" and ", b"number ", b"looked"]
    tokens = [bytes([byte]) for byte in range(256)] + words
    path = folder / "rwkv_vocab_v20230424.txt"
    lines = [f"{index} {token!r} {len(token)}\n" for index, token in enumerate(tokens, start=1)]
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("tokenizer", ["bytes", "train:300", "world"])
def test_a_model_trained_with_any_tokenizer_writes_text(tokenizer, tmp_path):
    files = [tmp_path / f"{index}.txt" for index in range(len(TEXTS))]
    for file, text in zip(files, TEXTS, strict=True):
        file.write_text(text)
    source = world_vocabulary(tmp_path) if tokenizer == "world" else tokenizer
    prepare(files, source, tmp_path / "store")
    entries = {
        "name": "whole",
        "model": {"n_layer": 2, "n_embd": 32},
        "data": {"store": str(tmp_path / "store"), "ctx_len": 32, "batch_size": 8},
        "training": {"steps": 60},
        "optimizer": {"lr": 1e-2},
    }
    outcome = run_training(parse_config(entries, "here"), tmp_path / "run", resume="auto")

    written = load(outcome.model_folder).generate("the cat number", max_tokens=40, temperature=0.0)
    assert "sat on the mat" in written.text


@pytest.mark.slow
def test_the_smallest_published_size_trains_a_step_is_saved_and_writes(tmp_path):
    torch.manual_seed(1)
    model = RWKV4(RWKV4Config.preset("169m"))
    model.init_weights()
    entries = {
        "name": "169m",
        "model": {"preset": "169m"},
        "data": {"store": "", "ctx_len": 64, "batch_size": 2},
        "training": {"steps": 1},
    }
    config = parse_config(entries, "here")
    tokens = torch.randint(50277, (2, 65))
    batch = Batch(tokens[:, :-1], tokens[:, 1:], torch.zeros(2, 64, dtype=torch.bool))
    optimizer = build_optimizer(model, config.optimizer)
    objective = Objective(model, auxiliary=1e-4, precision="bfloat16")
    first = training_step(config, objective, optimizer, batch)
    second = training_step(config, objective, optimizer, batch)
    assert second.loss < first.loss

    save_model(model, BytesTokenizer(), tmp_path / "model")
    written = load(tmp_path / "model", tokenizer="bytes").generate("a", max_tokens=4, seed=1)
    assert len(written.tokens) == 4

"""A model and made-up items for it, as small as they can be."""

import json
from pathlib import Path

import torch

from receptance.checkpoint import save_model
from receptance.tokenizer import train_bpe
from tests.random_models import random_rwkv4

TEXT = "the cat of the house sat on the mat and the dog ran to the house of the cat. " * 9
ITEMS = [
    ("the cat sat on the", "mat"),
    ("the dog of the house ran to the cat and sat on", "the"),
    ("the cat", "sat"),
    ("and the dog ran. the house of the cat of the", "dog"),
    ("the dog ran to the", "house"),
]


def saved_model(folder: Path) -> Path:
    """Save a model of two layers whose tokens are words and parts of them."""
    tokenizer = train_bpe([TEXT], 290)
    model = random_rwkv4(2, 16, tokenizer.vocab_size)
    with torch.no_grad():
        model.head.weight.mul_(0.3)  # a trained model finds no word impossible
    save_model(model, tokenizer, folder)
    return folder


def saved_items(path: Path) -> Path:
    lines = [json.dumps({"context": a, "continuation": b}) for a, b in ITEMS]
    path.write_text("\n".join(lines) + "\n")
    return path


def saved_choices(folder: Path) -> Path:
    """Save a folder of one task of four choices, in the harness's YAML."""
    folder.mkdir()
    items = [
        {"question": a, "choices": ["mat", "dog ran", "house", "cat of the house"], "answer": i % 4}
        for i, (a, _) in enumerate(ITEMS)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(each) + "\n" for each in items))
    (folder / "choices.yaml").write_text(
        """\
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
"""
    )
    return folder

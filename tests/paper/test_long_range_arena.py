"""ListOps is as its recipe says, and a classifier goes on where it was killed."""

import pytest
import torch

from paper.harness import classifier
from paper.harness.classifier import Classifier, Labelled, Plan, accuracy, fit, interval
from paper.harness.listops import END, OPERATIONS, WORDS, Shape, apply, examples, value_of
from paper.table_4_long_range_arena import EXPERIMENT, PAPER, PAPER_TASKS
from receptance.models import RWKV4Config

SHAPE = Shape(10, 60, 4, 5)
CONFIG = RWKV4Config(n_layer=1, n_embd=8, vocab_size=8)
# The class is the first id; eight ids.
DATA = [Labelled([1 + i % 2, *[3 + i % 5] * (1 + i % 4)], i % 2) for i in range(64)]


def depth(words: tuple[str, ...]) -> int:
    opened = deepest = 0
    for word in words:
        opened += (word in OPERATIONS) - (word == END)
        deepest = max(deepest, opened)
    return deepest + 1  # digits are below the deepest operation


def test_expressions_have_the_wanted_shape_and_are_all_different():
    found = examples(200, SHAPE, seed=1)
    assert len({each.words for each in found}) == 200
    assert all(10 < len(each.words) < 60 for each in found)
    assert max(depth(each.words) for each in found) == 4
    assert {word for each in found for word in each.words} == set(WORDS) - {""}


def test_the_value_of_an_expression_is_that_of_reading_it():
    assert all(value_of(each.words) == each.value for each in examples(200, SHAPE, seed=2))
    text = "[MAX 4 [MIN 8 9 ] [SM 7 6 5 ] 0 ]"
    assert value_of(tuple(text.split())) == 8


def test_the_median_of_an_even_number_is_rounded_down():
    assert [apply("[MED", [1, 2]), apply("[MED", [9, 1, 5]), apply("[SM", [7, 6])] == [1, 5, 3]


def test_a_seed_draws_the_same_expressions_again():
    assert examples(20, SHAPE, seed=3) == examples(20, SHAPE, seed=3)
    assert examples(20, SHAPE, seed=3) != examples(20, SHAPE, seed=4)


def test_what_fills_a_batch_is_not_read():
    torch.manual_seed(1)
    model = Classifier(CONFIG, 2)
    ids = torch.tensor([[1, 2, 3, 0, 0], [1, 2, 3, 7, 7]])
    one, two = model(ids, torch.tensor([3, 3]))
    assert torch.equal(one, two)
    alone = model(ids[:1, :3], torch.tensor([3]))
    assert torch.allclose(one, alone[0], atol=1e-6)


def test_a_killed_classifier_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    plan = Plan(n_steps=20, batch_size=8, lr=0.02, warmup_steps=2)
    whole = fit(tmp_path / "whole", CONFIG, 2, DATA, plan)

    batch = classifier._batch

    def killed(train, plan, step):
        if step == 13:
            raise KeyboardInterrupt
        return batch(train, plan, step)

    monkeypatch.setattr(classifier, "_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", CONFIG, 2, DATA, plan)
    monkeypatch.undo()
    resumed = fit(tmp_path / "killed", CONFIG, 2, DATA, plan)

    assert resumed.losses == whole.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    assert accuracy(whole.model, DATA) == 1.0


def test_the_interval_of_a_share_is_that_of_wilson():
    assert interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert interval(0.0, 10)[0] == pytest.approx(0.0, abs=1e-9)


def test_the_section_says_where_nothing_was_learnt():
    task = {
        "task": "ListOps", "accuracy": 0.15, "interval": (0.13, 0.17), "train_accuracy": 0.15,
        "always_the_commonest": 0.16, "n_train": 10, "mean_length": 90.0, "epochs": 1.0,
    }  # fmt: skip
    listops = {**SHAPE._asdict(), "sha256": "ab"}
    section = EXPERIMENT.section({"tasks": [task], "n_layer": 1, "n_embd": 8, "listops": listops})
    assert "the task was not learnt" in section
    assert all(len(values) == len(PAPER_TASKS) for values in PAPER.values())

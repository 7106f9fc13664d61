"""The items of the prompt-order experiment are right, and a model is asked as it should be."""

import random

import pytest
import torch

from paper.tables_6_7_prompt_order import (
    EXPERIMENT,
    ORDERS,
    PAPER,
    SIZES,
    TASKS,
    Item,
    answer,
    by_numbers_alone,
    item,
    measured_items,
    training_items,
)
from receptance.inference import LanguageModel
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import BytesTokenizer


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    torch.manual_seed(1)
    model = RWKV4(RWKV4Config(n_layer=1, n_embd=16, vocab_size=257))
    model.init_weights()
    return LanguageModel(model, BytesTokenizer())


@pytest.mark.parametrize("n_facts", [2, 8])
def test_the_answer_is_what_the_text_says(n_facts):
    draw = random.Random(1)
    for _ in range(50):
        each = item(draw, "how many", n_facts)
        name = each.question.removeprefix("How many has ").rstrip("?")
        assert f"{name} has {each.answer}" in each.text
        assert each.text.count(" has ") == n_facts

        each = item(draw, "yes or no", n_facts)
        _, name, number = each.question.rstrip("?").split(" ")
        assert (f"{name} has {number}" in each.text) == (each.answer == "yes")


def test_yes_is_right_half_the_time():
    draw = random.Random(2)
    n_yes = sum(item(draw, "yes or no", 2).answer == "yes" for _ in range(1000))
    assert 440 < n_yes < 560


def test_both_orders_have_the_same_parts():
    each = item(random.Random(3), "how many", 2)
    first, second = (each.prompt(order) for order in ORDERS)
    assert first.startswith("Question: ")
    assert second.startswith("Text: ")
    assert sorted(first.split("\n")) == sorted(second.split("\n"))
    assert first.endswith("\nAnswer:")


def test_the_items_of_the_test_are_the_same_for_every_model():
    assert measured_items(20, 2, TASKS[0]) == measured_items(20, 2, TASKS[0])


def test_no_measured_item_is_trained_on():
    size = SIZES["quick"]._replace(n_facts=(2,), n_train=20_000, n_test=200)
    measured = {each for task in TASKS for each in measured_items(size.n_test, 2, task)}
    trained = list(training_items(size))
    assert len(trained) == 20_000
    assert measured.isdisjoint(trained)
    draw = random.Random(1)
    by_chance = {item(draw, TASKS[index // 2 % 2], 2) for index in range(20_000)}
    assert measured & by_chance


def test_who_looks_at_the_numbers_alone_is_right_as_often_as_they_allow():
    def share(text: str, question: str, answer: str) -> float:
        return by_numbers_alone([Item(text, question, (), answer)])

    text = "Ann has 3, Bob has 4."
    assert share(text, "How many has Bob?", "4") == 0.5
    assert share(text, "Has Bob 4?", "yes") == 1
    assert share(text, "Has Bob 5?", "no") == 1
    assert share(text, "Has Bob 3?", "no") == 0
    assert share("Ann has 3, Bob has 4, Cid has 3.", "How many has Bob?", "4") == 2 / 3
    # One of two numbers, or both where they are the same by chance.
    assert by_numbers_alone(measured_items(2000, 2, TASKS[0])) == pytest.approx(0.55, abs=0.02)


def test_the_likeliest_choice_is_found_by_reading_the_prompt_once(lm):
    each = item(random.Random(4), "how many", 2)
    prompt = each.prompt(ORDERS[0])
    likeliest = max(each.choices, key=lambda choice: sum(lm.score(prompt, f" {choice}")))
    assert answer(lm, each, ORDERS[0]) == likeliest


def test_the_section_says_whether_the_order_made_a_difference():
    def told(first: list[float], second: list[float], n_alike: int = 0, n_models: int = 3) -> str:
        found = []
        for index in range(n_models):
            row = {"n_facts": [2, 4], "n_alike": n_alike if index == 0 else 0}
            for task in TASKS:
                row |= {f"question first, {task}": [each - index / 100 for each in first]}
                row |= {f"text first, {task}": second}
            found.append(row)
        return EXPERIMENT.section({"rows": found, "n_test": 100})

    assert "The claim holds here." in told([0.99, 0.99], [0.5, 0.3])
    assert "the other way round" in told([0.5, 0.3], [0.99, 0.99])
    assert "No difference is shown" in told([0.99, 0.99], [0.98, 0.98])
    assert "+59.0 ± 4.8, " in told([0.99, 0.99], [0.5, 0.3])
    assert "In 0 of 4 rows a model is better than that" in told([0.5, 0.3], [0.4, 0.2])
    assert "The claim holds here." in told([0.99, 0.99], [0.5, 0.3], n_models=1)
    assert "In 3 of 24 shares one answer was given" in told([0.5, 0.4], [0.4, 0.5], 3)
    assert all(name in told([0.5, 0.4], [0.4, 0.5]) for name in PAPER)

"""The items of the prompt-order experiment are right, and a model is asked as it should be."""

import random

import pytest
import torch

from paper.tables_6_7_prompt_order import (
    EXPERIMENT,
    ORDERS,
    PAPER,
    TASKS,
    Item,
    answer,
    by_numbers_alone,
    item,
    measured_items,
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
        thing, name = each.question.removeprefix("How many ").split(" does ")
        name = name.split(" ")[0]
        assert f"{name} has {each.answer} {thing}." in each.text
        assert each.text.count(".") == n_facts

        each = item(draw, "yes or no", n_facts)
        _, name, _, number, thing = each.question.rstrip("?").split(" ")
        assert (f"{name} has {number} {thing}." in each.text) == (each.answer == "yes")


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


def test_who_looks_at_the_numbers_alone_is_right_as_often_as_they_allow():
    def share(text: str, question: str, answer: str) -> float:
        return by_numbers_alone([Item(text, question, (), answer)])

    text = "Ann has 3 apples. Bob has 4 apples."
    assert share(text, "How many apples does Bob have?", "4") == 0.5
    assert share(text, "Does Bob have 4 apples?", "yes") == 1
    assert share(text, "Does Bob have 5 apples?", "no") == 1
    assert share(text, "Does Bob have 3 apples?", "no") == 0
    # One of two numbers, or the other one where it is the same by chance.
    assert by_numbers_alone(measured_items(2000, 2, TASKS[0])) == pytest.approx(0.55, abs=0.02)


def test_the_likeliest_choice_is_found_by_reading_the_prompt_once(lm):
    each = item(random.Random(4), "how many", 2)
    prompt = each.prompt(ORDERS[0])
    likeliest = max(each.choices, key=lambda choice: sum(lm.score(prompt, f" {choice}")))
    assert answer(lm, each, ORDERS[0]) == likeliest


def test_the_section_says_whether_the_order_made_a_difference():
    def told(first: list[float], second: list[float], n_alike: int = 0) -> str:
        row = {"n_facts": [2, 4], "n_alike": n_alike}
        for task in TASKS:
            row |= {f"question first, {task}": first, f"text first, {task}": second}
        return EXPERIMENT.section({"rows": [row], "n_test": 100})

    assert "The claim holds here." in told([0.9, 0.8], [0.5, 0.3])
    assert "the other way round" in told([0.5, 0.3], [0.9, 0.8])
    assert "it shows nothing" in told([0.8, 0.6], [0.7, 0.7])
    assert "In 0 of 4 rows a model is better than that" in told([0.5, 0.3], [0.4, 0.2])
    assert "In 3 of 8 shares one answer was given" in told([0.5, 0.4], [0.4, 0.5], 3)
    assert all(name in told([0.5, 0.4], [0.4, 0.5]) for name in PAPER)

"""Prompts of all four shapes."""

from typing import Any

import pytest
from pydantic import ValidationError

from receptance.serving.protocol import CompletionBody


def prompts_of(prompt: Any) -> Any:
    return CompletionBody.model_validate({"model": "m", "prompt": prompt}).prompt


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", ""], ["a", ""]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([[]], [[]]),
        (None, None),
    ],
)
def test_a_prompt_of_any_shape_is_read(prompt: Any, prompts: Any):
    assert prompts_of(prompt) == prompts


@pytest.mark.parametrize(
    "prompt", [[], 3, {}, True, [True], ["a", 1], [1, "a"], [[1], "a"], [["a"]], [1.0], [[[1]]]]
)
def test_another_shape_is_refused(prompt: Any):
    with pytest.raises(ValidationError, match="must"):
        prompts_of(prompt)

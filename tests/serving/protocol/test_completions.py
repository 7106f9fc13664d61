"""What a request for a completion says."""

from typing import Any

import pytest

from receptance.errors import RequestError
from receptance.serving.protocol import CompletionBody, require_possible_completion
from receptance.serving.settings import Settings


def body_of(**fields: Any) -> CompletionBody:
    return CompletionBody.model_validate({"model": "m", "prompt": "hi", **fields})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
        ({"best_of": 9}, "best_of"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"n": 1, "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": ["a", "b", "c"], "n": 3}, "prompt"),
        ({"prompt": ["a"] * 9}, "prompt"),
    ],
)
def test_an_impossible_value_is_refused_by_name(fields: dict[str, Any], param: str):
    settings = Settings(max_top_logprobs=5, max_choices=8)
    with pytest.raises(RequestError) as caught:
        require_possible_completion(body_of(**fields), settings)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [{"suffix": ""}, {"suffix": None}, {"n": 2, "best_of": 2, "stream": True}, {"best_of": 4}],
)
def test_what_is_possible_is_taken(fields: dict[str, Any]):
    require_possible_completion(body_of(**fields), Settings())


def test_as_many_drafts_are_written_as_the_best_are_chosen_of():
    assert body_of().n_drafts == 1
    assert body_of(n=3).n_drafts == 3
    assert body_of(n=2, best_of=5).n_drafts == 5

"""Vectors on their way out."""

import base64
import math
import struct
from typing import Any

import pytest

from receptance.errors import RequestError
from receptance.serving.protocol import (
    EmbeddingBody,
    embedding_object,
    require_possible_embedding,
    unit_vector,
)
from receptance.serving.settings import Settings


def test_a_vector_is_made_one_of_length_1():
    assert unit_vector([3.0, 4.0], None) == [0.6, 0.8]
    assert math.hypot(*unit_vector([0.3] * 50, 7)) == pytest.approx(1)


def test_fewer_dimensions_are_the_first_ones_with_length_1_again():
    assert unit_vector([3.0, 4.0, 12.0], 2) == [0.6, 0.8]


def test_a_vector_of_zeros_stays_one():
    assert unit_vector([0.0, 0.0], None) == [0.0, 0.0]


def test_base64_is_float32_in_little_endian_order():
    vector = embedding_object(3, [0.5, -0.25], "base64")
    assert vector["index"] == 3
    assert vector["object"] == "embedding"
    assert struct.unpack("<2f", base64.b64decode(vector["embedding"])) == (0.5, -0.25)
    assert embedding_object(0, [0.5], "float")["embedding"] == [0.5]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ["a"] * 4}, "input"),
        ({"input": ""}, "input[0]"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": "a", "dimensions": 9}, "dimensions"),
    ],
)
def test_more_than_there_is_is_refused_by_name(fields: dict[str, Any], param: str):
    body = EmbeddingBody.model_validate({"model": "m", **fields})
    with pytest.raises(RequestError) as caught:
        require_possible_embedding(body, Settings(max_inputs=3), 8)
    assert caught.value.param == param

"""What people see holds nothing that acts on their terminal."""

from dataclasses import replace

import pytest
import torch

from receptance.checkpoint import Description, describe, difference, save_model
from receptance.cli.inspect_tables import (
    agreement_lines,
    description_lines,
    difference_lines,
    difference_table,
    tensor_table,
)
from receptance.evaluation import Agreement
from tests.random_models import random_rwkv4


@pytest.fixture
def description(tmp_path) -> Description:
    save_model(random_rwkv4(1, 8, 40), None, tmp_path / "model")
    return describe(tmp_path / "model")


def test_what_a_file_says_is_printed_and_does_not_act(description):
    hostile = replace(
        description,
        details={"type": "\x1b[2J"},
        provenance={"metadata": {"by": "\x07"}},
        problems=["it is\x1b[31m bad"],
    )

    lines = description_lines(hostile)

    assert all(line.isprintable() for line in lines)
    assert r"PROBLEM       it is\x1b[31m bad" in lines


def test_what_is_not_there_has_no_line(description):
    names = [line[:14].strip() for line in description_lines(description)]

    assert names[:5] == ["path", "format", "architecture", "parameters", "dtypes"]
    assert "quantization" not in names
    assert "initial state" not in names


def test_tables_have_a_row_for_each_tensor(description, tmp_path):
    assert tensor_table(description).row_count == len(description.tensors)
    save_model(random_rwkv4(1, 8, 40, dtype=torch.bfloat16), None, tmp_path / "other")
    found = difference(tmp_path / "model", tmp_path / "other")
    assert difference_table(found).row_count == len(found.tensors)
    assert difference_lines(found) == ["differs: 0 tensors are equal, 24 are not"]


def test_what_was_read_is_said():
    found = Agreement("tokens", 64, 0.125, 0.5, 0.25)

    assert agreement_lines(found) == [
        "predictions after 64 tokens without a meaning",
        "  logits differ by at most  0.125",
        "  same likeliest token      50.0%",
        "  KL, nats a token          0.25",
    ]
    assert agreement_lines("for a reason") == ["predictions not compared: for a reason"]

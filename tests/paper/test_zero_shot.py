"""The paper's zero-shot values are whole, and a model is set beside them or it is said why not."""

import json
import subprocess

import pytest
import torch

from paper import zero_shot
from paper.harness import Options
from paper.harness.zero_shot_values import METRICS_1, MODELS, SIZES, VERSION_1, VERSION_2
from receptance.checkpoint import save_model
from receptance.models import RWKV4, RWKV4Config


def options(tmp_path, model=None) -> Options:
    return Options(scale="small", texts=(), work=tmp_path, model=model)


def test_there_is_a_value_for_every_task_and_size():
    assert len(VERSION_2) == 12
    for values in VERSION_2.values():
        assert {model: len(each) for model, each in values.items()} == {
            model: len(sizes) for model, sizes in MODELS.items()
        }
    assert len(VERSION_1) == 19
    assert {len(values) for values in VERSION_1.values()} == {len(METRICS_1)}


def test_the_means_are_those_of_the_twelve_values(tmp_path):
    means = zero_shot.measure(options(tmp_path))["means"]
    assert means["RWKV-4"] == pytest.approx([45.44, 49.46, 55.13, 58.01, 60.55, 63.04], abs=0.01)
    assert means["BLOOM"] == pytest.approx([46.31, 50.28, 52.58, 55.28, 58.36], abs=0.01)


def test_without_weights_the_values_and_the_commands_are_shown(tmp_path):
    section = zero_shot.section(zero_shot.measure(options(tmp_path)))
    assert "| lambada_openai | 32.58 | 45.41 |" in section
    assert "receptance eval RWKV/rwkv-4-14b-pile --tasks arc_challenge," in section
    assert len(zero_shot.WEIGHTS) == len(SIZES)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(1)
    made = RWKV4(RWKV4Config(n_layer=1, n_embd=8, vocab_size=16))
    made.init_weights()
    save_model(made, None, tmp_path / "model")
    return tmp_path / "model"


def test_a_verb_that_fails_is_told_and_nothing_is_made_up(tmp_path, model, monkeypatch):
    def fails(arguments, **_):
        return subprocess.CompletedProcess(arguments, 2, stderr="Usage\nerror: no lm-eval\n")

    monkeypatch.setattr(zero_shot.subprocess, "run", fails)
    found = zero_shot.measure(options(tmp_path, model))
    assert found["not_measured"] == "error: no lm-eval"
    assert "was not measured: error: no lm-eval" in zero_shot.section(found)


def test_figures_of_a_published_size_are_set_beside_the_papers(tmp_path, model, monkeypatch):
    def measures(arguments, **_):
        output = arguments[arguments.index("--output") + 1]
        right = {task: values["RWKV-4"][0] / 100 for task, values in VERSION_2.items()}
        right["copa"] = 0.5
        tasks = {task: {"acc": {"value": value, "stderr": 0.01}} for task, value in right.items()}
        tasks["record"] = {"f1": tasks["record"]["acc"]}
        with open(output, "w") as file:  # noqa: PTH123 - the command is given a text
            json.dump({"tasks": tasks}, file)
        return subprocess.CompletedProcess(arguments, 0, stderr="")

    monkeypatch.setattr(zero_shot.subprocess, "run", measures)
    found = zero_shot.measure(options(tmp_path, model))
    assert "no published size" in zero_shot.section(found)

    section = zero_shot.section({**found, "size": "169m"})
    assert "11 of 12 are within two standard errors of the paper's." in section
    assert "| copa | 50.00 ± 1.00 | 66.0 |" in section

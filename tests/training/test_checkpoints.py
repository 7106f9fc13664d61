"""A run's checkpoint is there whole or not at all, and one that is not whole is never used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from receptance.checkpoint import load_checkpoint
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import load_tokenizer
from receptance.training import (
    Progress,
    Run,
    build_optimizer,
    list_checkpoints,
    load_training,
    save_training,
)
from tests.training.tiny_run import hooks, stop_after, tiny_config, tiny_train


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_train(tiny_config(), tmp_path, hooks(should_stop=stop_after(3)))[0]


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    (path,) = list_checkpoints(tmp_path / "checkpoints")
    assert path.name == f"step-{run.progress.step + 3:08d}"
    return path


def empty(n_embd: int = 16) -> Run:
    model = RWKV4(RWKV4Config(n_layer=2, n_embd=n_embd, vocab_size=256))
    optimizer = build_optimizer(model, tiny_config().optimizer)
    return Run(model, optimizer, Progress(0, 0, 0.0))


def test_what_is_saved_is_loaded_bit_for_bit(run, saved):
    other = empty()

    progress = load_training(saved, other.model, other.optimizer)

    assert progress[:2] == (3, 3 * 64)
    for (name, a), (_, b) in zip(
        run.model.named_parameters(), other.model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        for key in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(run.optimizer.state[a][key], other.optimizer.state[b][key]), name


def test_it_holds_a_model_folder_that_every_verb_opens(run, tmp_path):
    path = save_training(
        tmp_path / "more", run.model, run.optimizer, Progress(7, 8, 9.0),
        load_tokenizer("bytes"), keep=1,
    )  # fmt: skip

    assert path.name == "step-00000007"
    assert load_checkpoint(path / "model").model.config == run.model.config


def test_loading_leaves_the_file_alone_while_training_goes_on(saved):
    before = {file: file.read_bytes() for file in saved.rglob("*") if file.is_file()}
    other = empty()
    load_training(saved, other.model, other.optimizer)

    other.model(torch.zeros(1, 4, dtype=torch.int64))[0].square().mean().backward()
    other.optimizer.step()

    assert {file: file.read_bytes() for file in before} == before


def test_a_failure_midway_leaves_the_older_ones_and_nothing_else(run, saved):
    with torch.no_grad():
        run.model.ln_out.bias[0] = torch.nan  # a weight that no checkpoint may have
    before = sorted(saved.parent.rglob("*"))

    with pytest.raises(CheckpointError):
        save_training(saved.parent, run.model, run.optimizer, Progress(9, 9, 9.0), None, keep=1)

    assert sorted(saved.parent.rglob("*")) == before


def test_a_failure_midway_leaves_the_one_that_was_to_be_replaced(run, saved):
    run.optimizer.state[run.model.ln_out.bias]["exp_avg"] = torch.zeros(
        1, dtype=torch.complex64
    )  # no file has it

    with pytest.raises(KeyError):
        save_training(saved.parent, run.model, run.optimizer, Progress(3, 9, 9.0), None, keep=1)

    other = empty()
    assert load_training(saved, other.model, other.optimizer).tokens == 3 * 64
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_run_that_went_back_forgets_its_later_checkpoints(run, tmp_path):
    folder = tmp_path / "again"
    for step in (5, 10, 15):
        save_training(folder, run.model, run.optimizer, Progress(step, 0, 0.0), None, keep=9)

    save_training(folder, run.model, run.optimizer, Progress(6, 0, 0.0), None, keep=2)

    assert [path.name for path in list_checkpoints(folder)] == ["step-00000005", "step-00000006"]


def test_checkpoints_are_listed_oldest_first_and_what_is_staged_is_not_one(tmp_path):
    for name in ("step-00000010", "step-00000009", ".step-00000011.tmp-0123456789ab"):
        (tmp_path / name).mkdir()

    names = [path.name for path in list_checkpoints(tmp_path)]

    assert names == ["step-00000009", "step-00000010"]
    assert list_checkpoints(tmp_path / "none") == []


FILES = ["training.json", "optimizer.safetensors", "model/model.safetensors", "model/config.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_a_file_that_is_missing_or_damaged_is_named(saved, name, damage):
    file = saved / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        damaged = {"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\xff" * 99}
        file.write_bytes(damaged[damage])
    other = empty()

    with pytest.raises(CheckpointError) as caught:
        load_training(saved, other.model, other.optimizer)

    # A missing file may be told by the folder that lacks it.
    assert str(file.parent) in str(caught.value)
    assert file.name in str(caught.value)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    other = empty()

    with pytest.raises(CheckpointError, match=r"no training checkpoint at '.*nowhere'.*; name one"):
        load_training(tmp_path / "nowhere", other.model, other.optimizer)


def test_a_folder_of_checkpoints_is_none_but_names_its_newest(saved):
    run = saved.parents[1]
    for folder in (run, saved.parent):
        other = empty()
        with pytest.raises(CheckpointError) as caught:
            load_training(folder, other.model, other.optimizer)
        assert f"no training checkpoint at {str(folder)!r}" in str(caught.value)
        assert f"did you mean {str(saved)!r}?" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "must be JSON with step, tokens and seconds"),
        ('{"format": "x", "format_version": 1}', "of the format receptance-training 1, but it is"),
        ('{"format": "receptance-training", "format_version": 2}', "is receptance-training 2"),
        ('{"format": "receptance-training", "format_version": 1}', "must be JSON with step"),
    ],
)
def test_another_description_is_refused(saved, content, words):
    (saved / "training.json").write_text(content)
    other = empty()

    with pytest.raises(CheckpointError) as caught:
        load_training(saved, other.model, other.optimizer)
    assert words in str(caught.value)


def test_a_model_of_another_shape_is_refused(saved):
    other = empty(n_embd=24)

    with pytest.raises(CheckpointError) as caught:
        load_training(saved, other.model, other.optimizer)
    assert "must hold a model of this run" in str(caught.value)
    assert "n_embd=24" in str(caught.value)
    assert "n_embd=16" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda moments: moments.pop("head.weight.exp_avg"), "but it has none"),
        (
            lambda moments: moments.update({"head.weight.exp_avg": torch.zeros(3)}),
            "'head.weight.exp_avg' as float32 [256, 16], but it has float32 [3]",
        ),
        (
            lambda moments: moments.update({"head.weight.exp_avg": torch.zeros(256, 16).double()}),
            "but it has float64 [256, 16]",
        ),
    ],
)
def test_moments_of_another_model_are_refused(saved, change, words):
    moments = {name: each.clone() for name, each in load_file(saved / FILES[1]).items()}
    change(moments)
    (saved / FILES[1]).unlink()
    save_file(moments, saved / FILES[1])
    other = empty()

    with pytest.raises(CheckpointError) as caught:
        load_training(saved, other.model, other.optimizer)
    assert words in str(caught.value)
    assert str(saved / FILES[1]) in str(caught.value)


def test_a_checkpoint_may_be_moved_and_copied(saved, tmp_path):
    copy = tmp_path / "elsewhere" / "mine"
    shutil.copytree(saved, copy)
    other = empty()

    assert load_training(copy, other.model, other.optimizer).step == 3
    assert json.loads((copy / "training.json").read_text())["step"] == 3

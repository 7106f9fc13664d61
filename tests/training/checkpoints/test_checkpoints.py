"""A run's checkpoint is there whole or not at all, and one that is not whole is never used."""

import errno
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from receptance.checkpoint import load_checkpoint
from receptance.errors import CheckpointError
from receptance.tokenizer import load_tokenizer
from receptance.training import (
    Checkpoints,
    Progress,
    list_checkpoints,
)
from receptance.training.checkpoints.manifest import FORMAT_VERSION, read_manifest
from receptance.training.checkpoints.retention import Retention
from receptance.training.checkpoints.whole_tensors import WholeTensors
from tests.training.checkpoints.resealed import reseal
from tests.training.checkpoints.tiny_checkpoints import at, empty, load, names


def test_what_is_saved_is_loaded_bit_for_bit(run, saved):
    model, optimizer, checkpoints = empty(saved.parent)

    loaded = checkpoints.load(saved, model, optimizer)

    assert loaded.progress[:3] == (3, 3 * 64, 3 * 4)
    pairs = zip(run.model.named_parameters(), model.named_parameters(), strict=True)
    for (name, a), (_, b) in pairs:
        assert torch.equal(a, b), name
        for key in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(run.optimizer.state[a][key], optimizer.state[b][key]), name


def test_all_else_that_a_run_goes_on_from_is_there_too(run, tmp_path):
    checkpoints = empty(tmp_path / "more")[2]
    carried = {"wkv.num": torch.randn(2, 4, 16), "shift": torch.randn(2, 4, 16).bfloat16()}
    extras = {"spikes": {"average": 0.1 + 0.2, "skipped": [3, 4]}, "best": None}
    # Python's own generator is in test_random_states.py: the hook draws from it.
    generators = (np.random.rand, lambda: torch.rand(1).item())
    progress = Progress(7, 448, 30, 1.25)
    checkpoints.prepare(1)
    checkpoints.save(
        run.model, run.optimizer, progress,
        carried=carried, extras=extras, next_batch_sha256="ab" * 32, valid_bits_per_byte=2.5,
    )  # fmt: skip
    drawn = [draw() for draw in generators]

    loaded = load(tmp_path / "more" / "step-00000007")

    assert [draw() for draw in generators] == drawn
    assert loaded.progress == progress
    assert loaded.extras == extras
    assert loaded.next_batch_sha256 == "ab" * 32
    assert loaded.carried is not None
    assert loaded.carried.keys() == carried.keys()
    assert all(torch.equal(loaded.carried[name], each) for name, each in carried.items())
    manifest = read_manifest(tmp_path / "more" / "step-00000007")
    assert (manifest.step, manifest.tokens, manifest.valid_bits_per_byte) == (7, 448, 2.5)


def test_a_count_of_steps_that_were_taken_is_not_that_of_steps_that_were_done(run, tmp_path):
    checkpoints = empty(tmp_path / "more")[2]
    checkpoints.prepare(1)
    checkpoints.save(run.model, run.optimizer, at(9))  # six steps were skipped

    model, optimizer, again = empty(tmp_path / "more")
    again.load(tmp_path / "more" / "step-00000009", model, optimizer)

    assert {state["step"].item() for state in optimizer.state.values()} == {3.0}


def test_it_holds_a_model_folder_that_every_verb_opens(run, tmp_path):
    tokenizer = load_tokenizer("bytes")
    storage = WholeTensors(run.model.config, tokenizer)
    checkpoints = Checkpoints(tmp_path / "more", storage)
    checkpoints.prepare(1)
    checkpoints.save(run.model, run.optimizer, at(7))

    loaded = load_checkpoint(tmp_path / "more" / "step-00000007" / "model")

    assert loaded.model.config == run.model.config
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.name == "bytes"


def test_every_file_is_in_the_manifest(saved):
    files = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}

    assert read_manifest(saved).files.keys() == files - {"MANIFEST.json"}
    assert {"training.json", "optimizer.safetensors", "rank-00000/random.json"} < files
    assert (saved.parent / "latest").read_text() == saved.name + "\n"


def test_a_checkpoint_names_the_one_it_comes_from(run, tmp_path):
    checkpoints = empty(tmp_path / "more")[2]
    checkpoints.prepare(1)
    checkpoints.save(run.model, run.optimizer, at(2))
    model, optimizer, again = empty(tmp_path / "more")
    again.load(tmp_path / "more" / "step-00000002", model, optimizer)
    again.save(model, optimizer, at(4))

    parents = [read_manifest(path).parent for path in list_checkpoints(tmp_path / "more")]

    assert parents == ["", "step-00000002"]


def test_loading_leaves_the_file_alone_while_training_goes_on(saved):
    before = {file: file.read_bytes() for file in saved.rglob("*") if file.is_file()}
    model, optimizer, checkpoints = empty(saved.parent)
    checkpoints.load(saved, model, optimizer)

    model(torch.zeros(1, 4, dtype=torch.int64))[0].square().mean().backward()
    optimizer.step()

    assert {file: file.read_bytes() for file in before} == before


def test_a_run_that_went_back_forgets_its_later_checkpoints(run, tmp_path):
    folder = tmp_path / "again"
    checkpoints = empty(folder, retention=Retention(last=9))[2]
    checkpoints.prepare(1)
    for step in (5, 10, 15):
        checkpoints.save(run.model, run.optimizer, at(step))

    checkpoints.save(run.model, run.optimizer, at(6))

    assert [path.name for path in list_checkpoints(folder)] == ["step-00000005", "step-00000006"]


def test_a_checkpoint_of_the_same_step_is_replaced(run, tmp_path):
    checkpoints = empty(tmp_path / "again")[2]
    checkpoints.prepare(1)
    for tokens in (1, 2):
        checkpoints.save(run.model, run.optimizer, at(5, tokens))

    assert names(tmp_path / "again") == ["latest", "step-00000005"]
    assert load(tmp_path / "again" / "step-00000005").progress.tokens == 2


def test_the_best_and_those_of_every_so_many_steps_stay(run, tmp_path):
    folder = tmp_path / "kept"
    checkpoints = empty(folder, retention=Retention(last=2, every=4, best=1))[2]
    checkpoints.prepare(1)
    for step in range(1, 11):
        bits = abs(step - 3) + 1.0
        checkpoints.save(run.model, run.optimizer, at(step), valid_bits_per_byte=bits)

    assert [int(path.name[-2:]) for path in list_checkpoints(folder)] == [3, 4, 8, 9, 10]


FILES = [
    "training.json",
    "optimizer.safetensors",
    "model/model.safetensors",
    "model/config.json",
    "rank-00000/random.json",
    "MANIFEST.json",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_a_file_that_is_missing_or_damaged_is_named(saved, name, damage):
    file = saved / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        damaged = {"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\xff" * 99}
        file.write_bytes(damaged[damage])

    with pytest.raises(CheckpointError) as caught:
        load(saved)

    assert str(file) in str(caught.value)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no training checkpoint at '.*nowhere'.*; name one"):
        load(tmp_path / "nowhere")


def test_a_folder_of_checkpoints_is_none_but_names_its_newest(saved):
    run = saved.parents[1]
    for folder in (run, saved.parent):
        with pytest.raises(CheckpointError) as caught:
            load(folder)
        assert f"no training checkpoint at {str(folder)!r}" in str(caught.value)
        assert f"did you mean {str(saved)!r}?" in str(caught.value)


def test_a_model_of_another_shape_is_refused(saved):
    with pytest.raises(CheckpointError) as caught:
        load(saved, n_embd=24)
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
    path = saved / "optimizer.safetensors"
    moments = {name: each.clone() for name, each in load_file(path).items()}
    change(moments)
    path.unlink()
    save_file(moments, path)
    reseal(saved)

    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_checkpoint_may_be_moved_and_copied(saved, tmp_path):
    copy = tmp_path / "elsewhere" / "mine"
    shutil.copytree(saved, copy)

    assert load(copy).progress.step == 3
    assert json.loads((copy / "training.json").read_text())["progress"]["step"] == 3


def test_the_next_batch_is_told_only_to_a_run_of_the_same_settings(run, tmp_path):
    checkpoints = empty(tmp_path / "more", config_sha256="one")[2]
    checkpoints.prepare(1)
    checkpoints.save(run.model, run.optimizer, at(1), next_batch_sha256="ab")
    path = tmp_path / "more" / "step-00000001"

    for settings, expected in (("one", "ab"), ("other", "")):
        model, optimizer, other = empty(tmp_path / "more", config_sha256=settings)
        assert other.load(path, model, optimizer).next_batch_sha256 == expected


def test_another_number_of_threads_is_told(saved, caplog):
    training = json.loads((saved / "training.json").read_text())
    training["environment"]["threads"] = 64
    (saved / "training.json").write_text(json.dumps(training))
    reseal(saved)

    load(saved)

    assert "step-00000003 goes on, but not with the same bits" in caplog.text
    assert "threads: 64, now 1" in caplog.text


def test_a_disk_without_room_to_begin_is_told(tmp_path):
    checkpoints = empty(tmp_path / "new")[2]

    with pytest.raises(OSError, match=r"must have 2200000000.000 GB free to begin") as caught:
        checkpoints.prepare(10**18)

    assert caught.value.errno == errno.ENOSPC


def test_what_a_killed_process_left_is_removed(tmp_path, saved):
    (saved.parent / ".step-00000009.tmp-0123456789ab").mkdir()

    empty(tmp_path / "checkpoints")[2].prepare(1)

    assert names(saved.parent) == ["latest", saved.name]


def test_another_format_is_refused_and_left_alone(saved):
    reseal(saved, format_version=FORMAT_VERSION + 1)
    checkpoints = empty(saved.parent)[2]

    with pytest.raises(CheckpointError, match="written by another version of receptance"):
        checkpoints.newest_good()

    assert saved.exists()

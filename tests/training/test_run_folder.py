"""A run goes on only as the run that it was."""

import shutil
from pathlib import Path

import pytest
import torch

from receptance.errors import CheckpointError, ConfigError
from receptance.training import (
    RunConfig,
    checkpoint_to_resume,
    list_checkpoints,
    open_run,
    read_config,
)
from receptance.training.run_folder import config_sha256
from tests.training.tiny_run import hooks, stop_after, tiny_config, tiny_train


def opened(config: RunConfig, folder: Path, resume: str = "auto"):
    return open_run(config, folder, config.model.build(256), resume=resume)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of which five steps are done, with checkpoints at four and five."""
    tiny_train(tiny_config(), tmp_path / "run", hooks(should_stop=stop_after(5)))
    return tmp_path / "run"


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_new_run_begins_with_its_seed_and_keeps_its_settings(tmp_path, resume):
    config = tiny_config(seed=7)

    run = opened(config, tmp_path / "run", resume)
    torch.rand(3)
    again = opened(config, tmp_path / "again", resume)

    assert run.begin.progress == (0, 0, 0, 0.0)
    assert torch.equal(run.model.head.weight, again.model.head.weight)
    other = opened(tiny_config(seed=8), tmp_path / "other").model
    assert not torch.equal(run.model.head.weight, other.head.weight)
    assert read_config(tmp_path / "run" / "config.toml") == config


def test_auto_goes_on_from_the_newest_checkpoint(folder):
    assert opened(tiny_config(), folder).begin.progress.step == 5


def test_never_refuses_a_folder_with_checkpoints_and_leaves_it_alone(folder):
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    with pytest.raises(ConfigError) as caught:
        opened(tiny_config(seed=2), folder, "never")

    assert "must be new to begin anew, but it holds checkpoints up to step-00000005" in str(
        caught.value
    )
    assert {file: file.read_bytes() for file in before} == before


def test_never_takes_a_folder_whose_run_never_saved(folder):
    shutil.rmtree(folder / "checkpoints")

    assert opened(tiny_config(seed=2), folder, "never").begin.progress.step == 0
    assert read_config(folder / "config.toml").seed == 2


@pytest.mark.parametrize("text", ["[x", "[server]\nport = 80\n"])
def test_the_settings_of_another_program_are_not_replaced(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        opened(tiny_config(), tmp_path)

    assert "must be new or the folder of a run, but its config.toml is not of a run" in str(
        caught.value
    )
    assert "choose another folder, or move the file away" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]
    assert (tmp_path / "config.toml").read_text() == text


def test_a_path_chooses_the_checkpoint(folder, tmp_path):
    older = list_checkpoints(folder / "checkpoints")[0]

    assert opened(tiny_config(), folder, str(older)).begin.progress.step == 4
    another = tiny_config(name="another", optimizer_lr=1e-4)
    assert opened(another, tmp_path / "another", str(older)).begin.progress.step == 4
    assert read_config(tmp_path / "another" / "config.toml") == another


def test_a_run_that_went_back_comes_to_the_same_and_goes_on_from_there(folder):
    whole, _ = tiny_train(tiny_config(), folder.with_name("whole"))
    older = str(list_checkpoints(folder / "checkpoints")[0])

    went_back = hooks(should_stop=stop_after(0))
    tiny_train(tiny_config(), folder, went_back, resume=older)
    again, progress = tiny_train(tiny_config(), folder)

    assert progress.step == 12
    assert torch.equal(again.model.head.weight, whole.model.head.weight)


def test_a_path_without_a_checkpoint_is_named(folder):
    with pytest.raises(CheckpointError, match="no training checkpoint at 'nowhere'"):
        opened(tiny_config(), folder, "nowhere")


def test_changed_settings_are_refused_and_told(folder):
    before = (folder / "config.toml").read_bytes()

    with pytest.raises(ConfigError) as caught:
        opened(tiny_config(seed=2, training_steps=24), folder)

    message = str(caught.value)
    assert (
        f"in '{folder / 'config.toml'}', but `seed` was 1, now 2; `training.steps` was" in message
    )
    assert "now 24. Change them back, or choose another `name` for a new run" in message
    assert (folder / "config.toml").read_bytes() == before


def test_what_is_done_every_so_often_may_change(folder):
    config = tiny_config(every_sample_steps=3, every_keep_checkpoints=9)

    assert opened(config, folder).begin.progress.step == 5
    assert read_config(folder / "config.toml") == config


def test_a_run_may_be_renamed_with_its_folder(folder):
    folder.rename(folder.with_name("renamed"))

    assert opened(tiny_config(name="renamed"), folder.with_name("renamed")).begin.progress.step == 5


def test_a_model_of_another_vocabulary_is_refused(folder):
    config = tiny_config()

    with pytest.raises(CheckpointError, match="must hold a model of this run"):
        open_run(config, folder, config.model.build(300))


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_it_is_taken(folder, caplog):
    _, newest = list_checkpoints(folder / "checkpoints")
    (newest / "optimizer.safetensors").write_bytes(b"damaged")

    assert opened(tiny_config(), folder).begin.progress.step == 4

    assert "step-00000005 IS DAMAGED and is not used" in caplog.text
    aside = folder / "checkpoints" / "step-00000005.corrupt"
    assert "optimizer.safetensors' must have " in (aside / "CORRUPT.txt").read_text()


def test_a_damaged_checkpoint_that_is_asked_for_is_an_error_that_names_it(folder):
    newest = list_checkpoints(folder / "checkpoints")[-1]
    (newest / "optimizer.safetensors").write_bytes(b"damaged")

    with pytest.raises(CheckpointError, match=r"step-00000005/optimizer.safetensors' must have"):
        opened(tiny_config(), folder, str(newest))

    assert newest.exists()


def test_a_run_all_of_whose_checkpoints_are_damaged_does_not_begin_anew(folder):
    for path in list_checkpoints(folder / "checkpoints"):
        (path / "training.json").write_bytes(b"damaged")

    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            opened(tiny_config(), folder)
        assert "is whole: " in str(caught.value)
        assert "to begin anew, choose another `name` or remove the folder" in str(caught.value)


def test_what_a_run_would_go_on_from_is_told_without_a_change(folder):
    before = sorted(folder.rglob("*"))
    older, newest = list_checkpoints(folder / "checkpoints")

    assert checkpoint_to_resume(tiny_config(), folder, "auto") == newest
    (newest / "training.json").unlink()
    assert checkpoint_to_resume(tiny_config(), folder, "auto") == older

    before.remove(newest / "training.json")
    assert sorted(folder.rglob("*")) == before


def test_only_settings_that_decide_the_numbers_are_in_their_hash():
    same = tiny_config(name="x", data_store="moved", every_checkpoint_steps=9)

    assert config_sha256(same) == config_sha256(tiny_config())
    assert config_sha256(tiny_config(seed=3)) != config_sha256(tiny_config())
    assert config_sha256(tiny_config(data_store_sha256="ab")) != config_sha256(tiny_config())

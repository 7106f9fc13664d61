"""A save may go on beside training: what it saves, and what its failures come to, is the same."""

from threading import Event

import pytest
import torch
from safetensors.torch import load_file

from receptance.errors import CheckpointError
from receptance.training import Checkpoints
from receptance.training.checkpoints.whole_tensors import WholeTensors
from tests.training.checkpoints.tiny_checkpoints import at, empty, load, names


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_weight_that_no_checkpoint_may_have_is_refused_at_once(run, saved, asynchronous):
    checkpoints = empty(saved.parent, asynchronous=asynchronous)[2]
    with torch.no_grad():
        run.model.ln_out.bias[0] = torch.nan
    before = sorted(saved.parent.rglob("*"))

    with pytest.raises(CheckpointError, match=r"'ln_out.bias' in .* must be finite"):
        checkpoints.save(run.model, run.optimizer, at(9))

    checkpoints.finish()
    assert sorted(saved.parent.rglob("*")) == before


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_that_is_not_the_disk_s_comes_through(run, saved, asynchronous):
    checkpoints = empty(saved.parent, asynchronous=asynchronous)[2]
    run.optimizer.state[run.model.ln_out.bias]["exp_avg"] = torch.zeros(
        1, dtype=torch.complex64
    )  # no file has it

    def save() -> None:
        checkpoints.save(run.model, run.optimizer, at(3))
        checkpoints.finish()

    with pytest.raises(KeyError):
        save()

    assert load(saved).progress.tokens == 3 * 64
    assert names(saved.parent) == ["latest", saved.name]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_save_that_fails_is_told_leaves_nothing_and_is_made_good_by_the_next(
    run, saved, asynchronous, caplog
):
    checkpoints = empty(saved.parent, asynchronous=asynchronous)[2]
    blocked = saved.parent / "step-00000009"
    blocked.write_text("a file where a folder must be")

    checkpoints.save(run.model, run.optimizer, at(9))
    checkpoints.save(run.model, run.optimizer, at(12))
    checkpoints.finish()

    failed, good = checkpoints.take_reports()
    assert (failed.step, failed.path, good.step) == (9, blocked, 12)
    assert failed.failure is not None
    assert "step-00000009': Not a directory" in failed.failure
    assert good.failure is None
    assert checkpoints.take_reports() == []
    assert "NO CHECKPOINT after step 9" in caplog.text
    assert "those before it are kept" in caplog.text
    assert names(saved.parent) == ["latest", "step-00000003", "step-00000009", "step-00000012"]


def test_what_is_saved_is_what_was_when_the_save_began(run, saved):
    checkpoints = empty(saved.parent, asynchronous=True)[2]
    expected = {name: each.clone() for name, each in run.model.state_dict().items()}
    carried = {"shift": torch.ones(1, 2, 3)}

    checkpoints.save(run.model, run.optimizer, at(9), carried=carried)
    with torch.no_grad():
        for each in run.model.parameters():
            each.fill_(7.0)
            run.optimizer.state[each]["exp_avg"].fill_(7.0)
    carried["shift"].fill_(7.0)
    checkpoints.finish()

    path = saved.parent / "step-00000009"
    weights = load_file(path / "model" / "model.safetensors")
    assert all(torch.equal(weights[name], each) for name, each in expected.items())
    assert (load_file(path / "optimizer.safetensors")["ln_out.bias.exp_avg"] < 7).all()
    loaded = load(path).carried
    assert loaded is not None
    assert torch.equal(loaded["shift"], torch.ones(1, 2, 3))


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_a_save_under_way_is_completed_unless_the_run_is_interrupted(run, saved, error):
    class Slow(WholeTensors):
        def write(self, tensors, stage) -> None:
            release.wait(10)
            super().write(tensors, stage)

    release = Event()
    storage = Slow(run.model.config, None)
    checkpoints = Checkpoints(saved.parent, storage, asynchronous=True)

    def end() -> None:
        with checkpoints:
            checkpoints.save(run.model, run.optimizer, at(9))
            if error is not KeyboardInterrupt:
                release.set()
            if error:
                raise error

    if error:
        with pytest.raises(error):
            end()
    else:
        end()

    is_there = (saved.parent / "step-00000009").exists()
    assert is_there == (error is not KeyboardInterrupt)
    release.set()
    checkpoints.finish()

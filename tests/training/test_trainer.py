"""What happens between the steps of a run: segments, dropout and checkpoints by the clock."""

import pytest
import torch

from receptance.training import Ranks, list_checkpoints, open_run
from receptance.training.reader import BatchReader
from receptance.training.trainer import Trainer
from receptance.training.watch import UNKNOWN
from tests.training.tiny_run import hooks, stop_after, tiny_batch, tiny_config, tiny_train


@pytest.mark.parametrize(
    "settings",
    [
        {"data_segments": 3},
        {"data_segments": 3, "data_micro_batch_size": 2},
        {"training_dropout": 0.3},
        {"data_segments": 2, "data_later_batch_size": 6, "data_later_batch_step": 4},
        {"training_checkpoint_layers": True},
        {"every_save_asynchronously": True, "every_checkpoint_steps": 1},
    ],
)
def test_a_run_that_was_stopped_anywhere_goes_on_bit_for_bit(tmp_path, settings):
    config = tiny_config(**settings)
    whole: list[float] = []
    run, progress = tiny_train(config, tmp_path / "whole", hooks(whole))

    parts: list[float] = []
    for n_steps in (1, 3, 4, 100):
        stopped = hooks(parts, should_stop=stop_after(n_steps))
        part, last = tiny_train(config, tmp_path / "parts", stopped)

    assert parts == whole
    assert last[:3] == progress[:3]
    for name, weight in run.model.state_dict().items():
        assert torch.equal(part.model.state_dict()[name], weight), name


def test_the_state_goes_from_segment_to_segment_and_no_further(tmp_path):
    """With one more segment a sample the loss is another, from the second segment on."""
    losses = {}
    for segments in (1, 2):
        losses[segments] = []
        config = tiny_config(data_segments=segments, optimizer_lr=1e-2, training_steps=4)
        tiny_train(config, tmp_path / str(segments), hooks(losses[segments]))

    assert losses[1][0] == losses[2][0]
    assert losses[1][1] != losses[2][1]


def test_samples_are_passed_once_for_all_their_segments(tmp_path):
    _, progress = tiny_train(tiny_config(data_segments=3), tmp_path)

    assert progress[:3] == (12, 12 * 64, 4 * 4)


def test_a_checkpoint_is_written_when_its_time_has_come(tmp_path):
    config = tiny_config(every_checkpoint_steps=0, every_checkpoint_minutes=1e-9)

    tiny_train(config, tmp_path, hooks(should_stop=stop_after(3)))

    found = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert found == ["step-00000002", "step-00000003"]


def test_a_carried_state_goes_on_where_the_model_is(tmp_path):
    config = tiny_config(data_segments=3)
    tiny_train(config, tmp_path, hooks(should_stop=stop_after(2)))
    run = open_run(config, tmp_path, config.model.build(256))
    assert run.begin.carried is not None
    run = run._replace(model=run.model.to("meta"))
    ranks = Ranks(device=torch.device("meta"))
    with BatchReader(tiny_batch) as reader:
        trainer = Trainer(config, tmp_path, run, reader, hooks(), ranks, UNKNOWN)
    assert trainer._carried is not None
    assert {each.device.type for each in trainer._carried.tensors.values()} == {"meta"}


@pytest.mark.gpu
@pytest.mark.parametrize(
    "settings",
    [
        {"data_segments": 3},
        {"training_dropout": 0.3, "data_micro_batch_size": 2},
        {"training_checkpoint_layers": True, "training_precision": "bfloat16"},
        {"every_save_asynchronously": True, "every_checkpoint_steps": 1},
    ],
)
def test_a_run_on_a_gpu_that_was_stopped_goes_on(tmp_path, settings):
    """Where PyTorch's sums on a GPU are in no order, a run is not the same bits twice."""
    ranks = Ranks(device=torch.device("cuda"))
    config = tiny_config(training_device="cuda", **settings)
    whole: list[float] = []
    tiny_train(config, tmp_path / "whole", hooks(whole), ranks=ranks)
    parts: list[float] = []
    for n_steps in (3, 100):
        stopped = hooks(parts, should_stop=stop_after(n_steps))
        tiny_train(config, tmp_path / "parts", stopped, ranks=ranks)
    assert parts == pytest.approx(whole, rel=1e-4)

"""A decay that is stored as its logarithm comes back as the parameter that it was."""

from pathlib import Path

import pytest
import torch

from receptance.checkpoint.formats.log_decay import log_w_of, time_decay_of
from receptance.errors import CheckpointError

PATH = Path("somewhere/model.bin")


def test_a_time_decay_comes_back_within_a_millionth():
    time_decay = torch.linspace(-8, 8, 10_001)

    back = time_decay_of(PATH, "att.time_decay", log_w_of("att.time_decay", time_decay))

    assert back.dtype == torch.float32
    assert float((back - time_decay).abs().max()) <= 2.5e-7
    assert torch.equal(back[time_decay.abs() >= 4], time_decay[time_decay.abs() >= 4])


def test_what_is_stored_is_what_the_converters_of_others_store():
    time_decay = torch.linspace(-8, 8, 1001)

    assert torch.equal(log_w_of("att.time_decay", time_decay), -torch.exp(time_decay))


@pytest.mark.parametrize("number", [0.0, 0.5, float("nan"), float("-inf"), float("inf")])
def test_what_is_no_decay_is_refused(number):
    with pytest.raises(CheckpointError, match=r"'att.time_decay' in .* must be stored as -exp"):
        time_decay_of(PATH, "att.time_decay", torch.tensor([-1.0, number]))


@pytest.mark.parametrize("number", [-200.0, 90.0])
def test_a_decay_whose_logarithm_float32_lacks_is_not_stored(number):
    with pytest.raises(CheckpointError, match="must be negative and finite in float32 to be"):
        log_w_of("att.time_decay", torch.tensor([-1.0, number]))

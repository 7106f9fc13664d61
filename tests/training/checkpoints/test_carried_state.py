"""A state goes from the ranks that wrote it to those that read it, row by row."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from receptance.errors import CheckpointError
from receptance.training.checkpoints.carried_state import STATE_FILE, carried_rows, rank_folder
from receptance.training.processes import Ranks


def rows() -> torch.Tensor:
    return torch.arange(6.0).view(1, 6, 1).expand(2, 6, 3).contiguous()


def write(folder: Path, world_size: int) -> None:
    for rank, part in enumerate(rows().chunk(world_size, dim=1)):
        (folder / rank_folder(rank)).mkdir()
        save_file({"shift": part.contiguous()}, folder / rank_folder(rank) / STATE_FILE)


@pytest.mark.parametrize("before", [1, 2, 3, 6])
@pytest.mark.parametrize("after", [1, 2, 3, 6])
def test_any_number_of_ranks_goes_on_with_the_rows_of_any_other(tmp_path, before, after):
    write(tmp_path, before)

    parts = []
    for rank in range(after):
        part = carried_rows(tmp_path, before, Ranks(rank=rank, world_size=after))
        assert part is not None
        parts.append(part["shift"])

    assert torch.equal(torch.cat(parts, dim=1), rows())


def test_a_checkpoint_without_a_state_has_none(tmp_path):
    assert carried_rows(tmp_path, 2, Ranks()) is None


def test_rows_that_cannot_be_divided_are_refused(tmp_path):
    write(tmp_path, 1)

    with pytest.raises(CheckpointError, match=r"6, must divide equally among the ranks, but .* 4"):
        carried_rows(tmp_path, 1, Ranks(world_size=4))


def test_a_part_that_is_missing_is_told(tmp_path):
    write(tmp_path, 2)
    (tmp_path / rank_folder(1) / STATE_FILE).unlink()

    with pytest.raises(CheckpointError, match="must hold a state of each of its 2 ranks"):
        carried_rows(tmp_path, 2, Ranks())

"""A run that goes on reads what it would have read without a stop."""

import pytest
import torch

from receptance.errors import DataError
from receptance.training import batch_sha256, check_next_batch
from tests.training.tiny_run import tiny_batch


def test_the_same_batch_has_the_same_hash_and_another_has_not():
    assert batch_sha256(tiny_batch(12, 4)) == batch_sha256(tiny_batch(12, 4))
    assert batch_sha256(tiny_batch(12, 4)) != batch_sha256(tiny_batch(16, 4))


@pytest.mark.parametrize("part", ["tokens", "targets", "resets"])
def test_each_part_counts(part):
    batch = tiny_batch(12, 4)
    changed = getattr(batch, part).clone()
    changed[-1, -1] = ~changed[-1, -1] if changed.dtype == torch.bool else 77

    assert batch_sha256(batch._replace(**{part: changed})) != batch_sha256(batch)


def test_the_batch_that_was_expected_passes_and_so_does_any_if_none_was():
    check_next_batch(tiny_batch(12, 4), batch_sha256(tiny_batch(12, 4)))
    check_next_batch(tiny_batch(12, 4), "")


def test_another_batch_is_refused_with_what_may_have_happened():
    with pytest.raises(DataError) as caught:
        check_next_batch(tiny_batch(12, 4), batch_sha256(tiny_batch(16, 4)))

    assert batch_sha256(tiny_batch(16, 4))[:16] in str(caught.value)
    assert "the token store has changed, which `receptance data inspect" in str(caught.value)

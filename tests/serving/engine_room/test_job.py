import dataclasses

import pytest

from tests.serving.engine_room.rooms import job


def test_a_job_is_one_text_unless_told_and_can_not_be_changed():
    asked = job()
    assert asked.n == 1
    assert asked.max_seconds is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.n = 2  # pyright: ignore[reportAttributeAccessIssue]

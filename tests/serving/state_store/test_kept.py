"""Ids of states."""

import pytest

from receptance.serving.state_store.kept import Kept, is_id, new_id


def test_ids_differ_and_are_known_as_such():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(map(is_id, ids))


@pytest.mark.parametrize(
    "text", ["", "state-", "state-" + "0" * 31, "state-" + "0" * 33, "../state-" + "0" * 32]
)
def test_what_no_server_made_is_no_id(text: str):
    assert not is_id(text)
    assert not is_id("state-" + "g" * 32)
    assert not is_id(new_id() + "\n")


def test_a_client_is_not_told_whose_a_state_is():
    kept = Kept(owner="me", name="mine", tokens=3, n_bytes=5)
    assert "me" not in kept.object("tiny").values()

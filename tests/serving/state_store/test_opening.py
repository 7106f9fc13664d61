"""Where states are kept."""

from pathlib import Path

import pytest

from receptance.errors import RequestError
from receptance.inference import LanguageModel
from receptance.serving.settings import Settings
from receptance.serving.state_store import open_store


def test_with_a_folder_a_state_is_there_again(lm: LanguageModel, tmp_path: Path):
    settings = Settings(state_folder=tmp_path)
    kept = open_store(lm, settings).reserve("me").keep("", 1, lm.prefill("a"))
    assert open_store(lm, settings).find("me", kept.id) == kept


def test_without_a_folder_it_is_not(lm: LanguageModel):
    kept = open_store(lm, Settings()).reserve("me").keep("", 1, lm.prefill("a"))
    with pytest.raises(RequestError, match="there is no state"):
        open_store(lm, Settings()).find("me", kept.id)


def test_a_folder_that_nobody_may_use_is_not_made(lm: LanguageModel, tmp_path: Path):
    open_store(lm, Settings(state_folder=tmp_path / "new", max_states_per_key=0))
    assert not (tmp_path / "new").exists()

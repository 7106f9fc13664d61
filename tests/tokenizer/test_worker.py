from pathlib import Path
from typing import IO

import numpy as np
import pytest

from receptance.tokenizer import Tokenizer, worker
from receptance.tokenizer.worker import read_tokens, token_arrays, write_texts, write_tokens

TEXTS = ["", "the them\n\n", "é 漢字 🙂", "\0a"]


class Stream:
    """Stands for the standard input or output of a process."""

    def __init__(self, buffer: IO[bytes]) -> None:
        self.buffer = buffer


def test_arrays_hold_the_tokens_of_each_text(tokenizer: Tokenizer) -> None:
    arrays = token_arrays(tokenizer, TEXTS)
    assert [array.tolist() for array in arrays] == [tokenizer.encode(text) for text in TEXTS]


def test_messages_of_texts_are_answered_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with (tmp_path / "asked").open("w+b") as asked, (tmp_path / "answers").open("w+b") as answers:
        for texts in (TEXTS, [], ["a"]):
            write_texts(asked, texts)
        asked.seek(0)
        monkeypatch.setattr("sys.stdin", Stream(asked))
        monkeypatch.setattr("sys.stdout", Stream(answers))
        worker.main("bytes")
        answers.seek(0)
        first = read_tokens(answers)
        assert first is not None
        assert [bytes(each.tolist()) for each in first] == [
            text.encode().replace(b"\0", b"\xff") for text in TEXTS
        ]
        assert read_tokens(answers) == []
        assert read_tokens(answers) == [[97]]
        assert read_tokens(answers) is None


def test_a_question_that_breaks_off_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with (tmp_path / "asked").open("w+b") as asked, (tmp_path / "answers").open("w+b") as answers:
        write_texts(asked, TEXTS)
        write_texts(asked, TEXTS)
        asked.truncate(asked.tell() - 1)
        asked.seek(0)
        monkeypatch.setattr("sys.stdin", Stream(asked))
        monkeypatch.setattr("sys.stdout", Stream(answers))
        worker.main("bytes")
        answers.seek(0)
        assert len(read_tokens(answers) or []) == len(TEXTS)
        assert read_tokens(answers) is None


@pytest.mark.parametrize("kept", [1, 8, 20, 30])
def test_a_message_that_breaks_off_is_no_message(tmp_path: Path, kept: int) -> None:
    with (tmp_path / "message").open("w+b") as file:
        write_tokens(file, [np.array([1, 2]), np.array([70_000])])
        assert file.tell() == 36
        file.truncate(kept)
        file.seek(0)
        with pytest.raises(EOFError, match="a message must have"):
            read_tokens(file)

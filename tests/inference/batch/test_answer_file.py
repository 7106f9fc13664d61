"""Lines that were written stay, half a line goes, and a file of others is left alone."""

import pytest

from receptance.errors import DataError
from receptance.inference.batch.answer_file import answer_file

MARKS = ['{"line": 1, ', '{"line": 2, ', '{"line": 3, ']


def test_a_new_file_has_what_was_written(tmp_path):
    with answer_file(tmp_path / "out") as file:
        assert file.go_on(MARKS) == 0
        file.write("é")
        assert (tmp_path / "out").read_bytes() == "é\n".encode()


@pytest.mark.parametrize("n_bytes", range(1, 40))
def test_it_goes_on_wherever_a_kill_left_it(tmp_path, n_bytes):
    lines = [f'{mark}"a": 1}}' for mark in MARKS]
    whole = "".join(f"{line}\n" for line in lines).encode()
    (tmp_path / "out").write_bytes(whole[:n_bytes])

    with answer_file(tmp_path / "out") as file:
        n_there = file.go_on(MARKS)
        for line in lines[n_there:]:
            file.write(line)

    assert n_there == whole[:n_bytes].count(b"\n")
    assert (tmp_path / "out").read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b"notes of mine", 1),
        (b'{"line": 1, }\n{"line": 3, }\n', 2),
        (b'{"line": 1, }\n{"line": 2, }\n{"line": 3, }\n{"line": 4, }\n', 4),
        (b'{"line": 1, }\n{"line": 2, }\n{"line": 3, }\n{', 4),
    ],
)
def test_a_file_of_others_is_refused_and_left_as_it_is(tmp_path, content, number):
    path = tmp_path / "out"
    path.write_bytes(content)

    with answer_file(path) as file, pytest.raises(DataError) as refused:
        file.go_on(MARKS)

    assert str(refused.value).startswith(f"{path}:{number}: the line must answer the same prompt")
    assert path.read_bytes() == content


def test_two_cannot_write_it_at_once(tmp_path):
    path = tmp_path / "out"
    refused = pytest.raises(DataError, match="must be written by one process at a time")
    with answer_file(path), refused, answer_file(path):
        pass

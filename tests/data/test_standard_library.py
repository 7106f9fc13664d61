"""The corpus of the demo: what people wrote, and the same held-out files on every machine."""

import sysconfig
from pathlib import Path

import pytest

from receptance.data import standard_library
from receptance.errors import DataError

LONG = "x = 1\n" * 800


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library of twelve long files, three short ones, and what is left out."""
    for index in range(12):
        write(tmp_path / f"long{index}.py", LONG)
    for index in range(3):
        write(tmp_path / "package" / f"short{index}.py", "x = 1\n")
    for left_out in (
        "test/test_os.py",
        "json/tests/test_json.py",
        "idlelib/idle_test/test_x.py",
        "site-packages/thing.py",
        "encodings/cp1250.py",
        "pydoc_data/topics.py",
        "config-3.11-x86_64-linux-gnu/python-config.py",
        "_sysconfigdata__linux_x86_64-linux-gnu.py",
        "__pycache__/os.py",
    ):
        write(tmp_path / left_out, LONG)
    write(tmp_path / "long.txt", LONG)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_written_source_is_in_one_of_the_two_parts(folder):
    corpus = standard_library(n_held_out=4, folder=folder)

    assert len(corpus.held_out) == 4
    assert not set(corpus.train) & set(corpus.held_out)
    names = {path.relative_to(folder).as_posix() for path in corpus.train + corpus.held_out}
    long = {f"long{index}.py" for index in range(12)}
    assert names == long | {f"package/short{index}.py" for index in range(3)}


def test_only_long_files_are_held_out(folder):
    corpus = standard_library(n_held_out=6, folder=folder)

    assert {path.name[:4] for path in corpus.held_out} == {"long"}


def test_the_choice_depends_on_the_names_and_not_on_the_place(folder, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for path in folder.rglob("*.py"):
        write(copy / path.relative_to(folder), path.read_text())

    def names(corpus_folder: Path) -> list[str]:
        corpus = standard_library(n_held_out=4, folder=corpus_folder)
        return [path.relative_to(corpus_folder).as_posix() for path in corpus.held_out]

    assert names(copy) == names(folder)
    assert names(folder) == sorted(names(folder))


def test_a_file_more_moves_no_other_out_of_the_training_text_but_one(folder):
    before = standard_library(n_held_out=4, folder=folder)
    write(folder / "longer.py", LONG)
    after = standard_library(n_held_out=4, folder=folder)

    assert len(set(before.held_out) - set(after.held_out)) <= 1


def test_too_few_files_are_an_error_that_says_how_many(folder):
    with pytest.raises(DataError) as caught:
        standard_library(n_held_out=7, folder=folder)

    message = str(caught.value)
    assert f"the standard library at {str(folder)!r} must have at least 14 source" in message
    assert "files of 4096 bytes, but it has 12" in message


def test_a_folder_that_is_not_there_is_too_few_files(tmp_path):
    with pytest.raises(DataError, match="but it has 0"):
        standard_library(folder=tmp_path / "none")


def test_the_running_interpreter_has_a_library():
    corpus = standard_library()

    stdlib = Path(sysconfig.get_path("stdlib"))
    assert len(corpus.held_out) == 40
    assert len(corpus.train) > 300
    assert stdlib / "argparse.py" in corpus.train + corpus.held_out
    assert not [path for path in corpus.train if "site-packages" in path.parts]

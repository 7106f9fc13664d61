from pathlib import Path

import pytest

from receptance.data.documents import Boundaries, NotTextError
from receptance.data.held_out import digest
from receptance.data.manifest import Source
from receptance.data.records import RecordFormat
from receptance.data.survey import Reading, survey
from receptance.errors import DataError


def reading(*globs: str, skip_undecodable: bool = False, separator: str | None = None) -> Reading:
    return Reading(
        boundaries=Boundaries(separator=separator),
        records=RecordFormat(),
        globs=globs,
        skip_undecodable=skip_undecodable,
        excluding=set(),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("é|b| \n |")
    (tmp_path / "b.bin").write_bytes(b"text|text|\xff")
    (tmp_path / "c.txt").write_text("")
    return tmp_path


def test_each_source_is_counted_for_itself(folder: Path) -> None:
    found = survey(
        [folder / "a.txt", folder],
        reading(skip_undecodable=True, separator="|"),
        held_out=True,
        seed=None,
    )
    assert found.sources == [
        Source(
            path=str(folder / "a.txt"),
            held_out=True,
            files=1,
            documents=2,
            bytes=3,
            blank_documents=2,
            undecodable_files=0,
        ),
        Source(
            path=str(folder),
            held_out=True,
            files=1,
            documents=0,
            bytes=0,
            blank_documents=1,
            undecodable_files=1,
        ),
    ]
    assert [piece.text for piece in found.pieces()] == ["é", "b"]
    assert (found.n_documents, found.n_bytes) == (2, 3)


def test_the_extreme_digests_are_those_of_the_documents(folder: Path) -> None:
    found = survey([folder], reading("*.txt", separator="|"), held_out=False, seed=5)
    digests = [digest("é", 5), digest("b", 5)]
    assert (found.smallest_digest, found.largest_digest) == (min(digests), max(digests))


def test_a_file_that_is_not_text_is_an_error_unless_it_is_skipped(folder: Path) -> None:
    with pytest.raises(NotTextError, match=r"b\.bin' must be plain UTF-8 text, but byte 10 is"):
        survey([folder], reading(), held_out=False, seed=None)


def test_a_file_name_that_is_not_utf8_is_written_with_a_replacement(folder: Path) -> None:
    path = folder / "caf\udce9.txt"
    path.write_text("text")
    found = survey([path], reading(), held_out=False, seed=None)
    assert found.sources[0].path.endswith("caf\ufffd.txt")


def test_finding_no_text_is_an_error_that_says_what_was_found(folder: Path) -> None:
    message = r"the files must hold some text, but \['.*'\], globs \['\[bc\].\*'\] hold none: "
    with pytest.raises(DataError, match=message + "1 files with 1 blank documents, 1 files skip"):
        survey([folder], reading("[bc].*", skip_undecodable=True), held_out=False, seed=None)
    with pytest.raises(DataError, match="the held-out files must hold some text"):
        survey([folder / "c.txt"], reading(), held_out=True, seed=None)

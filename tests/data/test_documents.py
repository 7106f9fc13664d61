import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data.documents import (
    PIECE_CHARACTERS,
    READ_BYTES,
    Boundaries,
    NotTextError,
    parse_boundaries,
    read_pieces,
)
from receptance.errors import DataError

WIKITEXT_START = " = [^=].* = $"


def read_documents(path: Path, boundaries: Boundaries | None = None) -> list[str]:
    documents: list[str] = []
    for piece in read_pieces(path, boundaries or Boundaries()):
        if piece.begins:
            documents.append("")
        documents[-1] += piece.text
    return documents


def write(folder: Path, text: str) -> Path:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", ["", "a", "\ufeffbom\r\nline\rend\n", "日本語 🎉\n"])
def test_a_file_is_one_document_and_no_character_is_changed(tmp_path: Path, text: str) -> None:
    assert read_documents(write(tmp_path, text)) == [text]


def test_gzip_files_are_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress("héllo\n".encode() * 1000))
    assert read_documents(path) == ["héllo\n" * 1000]


def test_a_separator_is_cut_out(tmp_path: Path) -> None:
    path = write(tmp_path, "one\n\n\ntwo\n\n\n\n\n\nthree")
    assert read_documents(path, parse_boundaries("\n\n\n", None)) == ["one", "two", "", "three"]


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.text("ab\n", max_size=5), min_size=1, max_size=6))
def test_a_separator_splits_as_python_does(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    text = "ab\n".join(parts)
    path = write(tmp_path_factory.mktemp("split"), text)
    assert read_documents(path, Boundaries(separator="ab\n")) == text.split("ab\n")


def test_a_matching_line_begins_a_document(tmp_path: Path) -> None:
    text = " \n = One = \n \n = = Part = = \n x\n = Two = \n y"
    documents = read_documents(write(tmp_path, text), parse_boundaries(None, WIKITEXT_START))
    assert documents == [" \n", " = One = \n \n = = Part = = \n x\n", " = Two = \n y"]


def test_a_first_line_that_matches_leaves_nothing_before_it(tmp_path: Path) -> None:
    boundaries = parse_boundaries(None, "#")
    assert read_documents(write(tmp_path, "#a\n#b\n#c"), boundaries) == ["#a\n", "#b\n", "#c"]


def test_a_line_end_of_windows_is_no_part_of_the_line(tmp_path: Path) -> None:
    boundaries = parse_boundaries(None, "--$")
    assert read_documents(write(tmp_path, "a\r\n--\r\nb"), boundaries) == ["a\r\n", "--\r\nb"]


def test_a_long_document_comes_in_pieces_cut_at_line_ends(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(PIECE_CHARACTERS // 8))
    pieces = list(read_pieces(write(tmp_path, text), Boundaries()))
    assert len(pieces) == 2
    assert [piece.begins for piece in pieces] == [True, False]
    assert [piece.ends for piece in pieces] == [False, True]
    assert pieces[0].text.endswith("\n")
    assert pieces[0].text + pieces[1].text == text


def test_a_long_line_is_cut_before_a_space_between_letters(tmp_path: Path) -> None:
    text = "x" * (PIECE_CHARACTERS - 20) + "word word, word 1\nword" * 2
    pieces = list(read_pieces(write(tmp_path, text), Boundaries()))
    assert [piece.text for piece in pieces] == [
        text[: PIECE_CHARACTERS - 16],
        " word, word 1\nwordword word, word 1\nword",
    ]


def test_a_long_line_is_cut_anywhere_and_stays_one_line(tmp_path: Path) -> None:
    # The second piece begins with "#", which would begin a document if it began a line.
    text = "a" * PIECE_CHARACTERS + "#" + "b" * READ_BYTES + "\n#c"
    path = write(tmp_path, text)
    pieces = list(read_pieces(path, parse_boundaries(None, "#")))
    assert len(pieces[0].text) == PIECE_CHARACTERS
    assert "".join(piece.text for piece in pieces) == text
    assert read_documents(path, parse_boundaries(None, "#")) == [text[:-2], "#c"]


@pytest.mark.parametrize("shift", range(4))
def test_a_separator_across_a_read_or_a_piece_is_found(tmp_path: Path, shift: int) -> None:
    separator = "<|x|>"
    at_read = "é" * (READ_BYTES // 2 - shift)
    at_piece = "y" * (PIECE_CHARACTERS - shift)
    path = write(tmp_path, separator.join([at_read, at_piece, "z"]))
    assert read_documents(path, Boundaries(separator=separator)) == [at_read, at_piece, "z"]


@pytest.mark.parametrize("before", [0, 5, READ_BYTES - 1, READ_BYTES])
def test_a_byte_that_is_not_utf8_is_named_by_its_place(tmp_path: Path, before: int) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"a" * before + b"\xe9t\xe9")
    message = rf"'.*latin1\.txt' must be plain UTF-8 text, but byte {before} is not UTF-8 \("
    with pytest.raises(NotTextError, match=message):
        read_documents(path)


def test_a_character_cut_off_at_the_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt"
    path.write_bytes(b"a" * (READ_BYTES - 1) + "é".encode()[:1])
    with pytest.raises(NotTextError, match=f"byte {READ_BYTES - 1} is not UTF-8"):
        read_documents(path)


def test_a_zero_byte_means_that_it_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "utf16.txt"
    path.write_bytes("é text".encode() + "text".encode("utf-16-le"))
    with pytest.raises(NotTextError, match=r"byte 8 is zero, .*--skip-undecodable"):
        read_documents(path)


@pytest.mark.parametrize(
    "damage", [b"not gzip", gzip.compress(b"text" * 1000, mtime=0)[:-9]], ids=["no gzip", "cut off"]
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(damage)
    with pytest.raises(
        DataError, match=r"'.*bad\.gz' must be a whole gzip file, but it is damaged"
    ):
        read_documents(path)


def test_impossible_boundaries_are_refused() -> None:
    with pytest.raises(ValueError, match="one of `separator` and `document_start`"):
        parse_boundaries("a", "b")
    with pytest.raises(ValueError, match="`separator` must be a text of at least one character"):
        parse_boundaries("", None)
    with pytest.raises(ValueError, match=r"must be a regular expression, got '\('"):
        parse_boundaries(None, "(")

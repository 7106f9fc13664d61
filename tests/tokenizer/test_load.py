"""The right tokenizer for a name, a file or a folder."""

import os

import pytest

from receptance.errors import TokenizerError
from receptance.tokenizer import BPETokenizer, WorldTokenizer, load_tokenizer


def test_each_source_gives_its_tokenizer(
    small_bpe: BPETokenizer, small_world: WorldTokenizer, tmp_path
):
    assert load_tokenizer("bytes").name == "bytes"
    for tokenizer, file in (
        (small_bpe, "tokenizer.json"),
        (small_world, "rwkv_vocab_v20230424.txt"),
    ):
        folder = tmp_path / tokenizer.name
        folder.mkdir()
        tokenizer.save(folder)
        renamed = (folder / file).with_stem("another.name")
        renamed.write_bytes((folder / file).read_bytes())
        for source in (folder, str(folder), folder / file, str(renamed)):
            assert load_tokenizer(source).sha256 == tokenizer.sha256


@pytest.mark.parametrize("source", ["", "."])
def test_a_folder_without_a_tokenizer_is_not_taken_for_bytes(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError, match=r"'.' holds neither; name another, or 'bytes' if"):
        load_tokenizer(source)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(TokenizerError, match=r"a tokenizer must be .*, got '.*pipe.json'"):
        load_tokenizer(tmp_path / "pipe.json")


def test_a_folder_with_both_files_is_refused(
    small_bpe: BPETokenizer, small_world: WorldTokenizer, tmp_path
):
    small_bpe.save(tmp_path)
    small_world.save(tmp_path)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"a folder must hold one tokenizer, but {str(tmp_path)!r} holds 'tokenizer.json' and "
        "'rwkv_vocab_v20230424.txt'; name the file, or remove one"
    )


def test_a_wrong_name_lists_what_is_there_and_suggests_the_nearest(tmp_path):
    for name in ("tokenizer.json", "notes.md", "world.txt"):
        (tmp_path / name).touch()
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path / "tokenzier.json")
    assert str(caught.value) == (
        f"no tokenizer at {str(tmp_path / 'tokenzier.json')!r}: there is no such file or folder. "
        f"Found in {str(tmp_path)!r}: ['tokenizer.json', 'world.txt']. "
        f"Did you mean {str(tmp_path / 'tokenizer.json')!r}?"
    )


def test_a_long_list_is_cut_short(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:02}.txt").touch()
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path / "vocabulary")
    assert str(caught.value).endswith(
        "'08.txt', '09.txt'] and 2 more. It must be \"bytes\", a file or a folder"
    )


def test_bytes_misspelt_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError, match=r"Did you mean 'bytes'\?"):
        load_tokenizer("byte")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"the folder '.*absent' does not exist$"):
        load_tokenizer(tmp_path / "absent" / "tokenizer.json")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path / "model.pth")
    assert str(caught.value) == (
        "a tokenizer must be a `tokenizer.json` (.json) or a World vocabulary (.txt), got "
        f"{str(tmp_path / 'model.pth')!r}; rename it if it is one of these"
    )


def test_a_text_that_is_no_vocabulary_is_refused_at_its_first_line(tmp_path):
    (tmp_path / "story.txt").write_text("Once upon a time\n")
    with pytest.raises(TokenizerError, match=r"story\.txt:1: a line must be `id literal length`"):
        load_tokenizer(tmp_path / "story.txt")

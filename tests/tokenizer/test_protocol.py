"""What every tokenizer owes: the laws of `Tokenizer`."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import NFC

from receptance.errors import TokenizerError
from receptance.tokenizer import Tokenizer, load_tokenizer

# A fixture that is the same for all examples is no trouble.
ONCE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXT = st.text() | st.text(alphabet="the =abcdefgh\n\t\r'0é漢\0<|endoftext|>")


@ONCE
@given(text=TEXT)
@example("<|endoftext|>")
@example("\0")
@example("")
@example("x <|padding|><|endoftext|>\n\n\n  \t\ty 12345 don't e\u0301 🙂👩‍👩‍👧 \U0010ffff\x00\x00")
def test_text_comes_back_as_it_was_and_never_holds_the_end_of_text(tokenizer: Tokenizer, text: str):
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.decode_bytes(tokens) == text.encode()
    assert tokenizer.end_of_text not in tokens
    assert all(0 < token < tokenizer.vocab_size for token in tokens)


def kept(tokenizer: Tokenizer, text: str) -> str:
    """Return what comes back of `text`: its NFC with GPT-NeoX's tokenizer, else itself."""
    is_neox = tokenizer.name == "bpe" and tokenizer.vocab_size == 50277
    return NFC().normalize_str(text) if is_neox else text


# Letters of the astral planes, what combines with a letter before it, characters that format, and
# those that no version of Unicode has given a meaning yet.
RARE = st.text(st.characters(min_codepoint=0x10000) | st.characters(categories=["M", "Cf", "Cn"]))
WHITE = st.lists(st.sampled_from([" ", "\n", "\t", "\r\n", "\r", "\u00a0", "\u3000", "x", "."]))


@ONCE
@given(text=RARE | st.text() | WHITE.map("".join))
def test_all_of_unicode_comes_back(every_tokenizer: Tokenizer, text: str):
    tokens = every_tokenizer.encode(text)
    assert every_tokenizer.decode(tokens) == kept(every_tokenizer, text)
    assert every_tokenizer.decode_bytes(tokens).decode() == kept(every_tokenizer, text)
    assert every_tokenizer.encode_bytes(text.encode()) == tokens


@ONCE
@given(data=st.binary() | st.lists(st.binary(max_size=3) | TEXT.map(str.encode)).map(b"".join))
@example(b"\xed\xa0\x80\xe2\x82\xf0\x9f\x99\xc3\x80\x80 <|endoftext|>\0")
def test_any_bytes_come_back(tokenizer: Tokenizer, data: bytes):
    if tokenizer.name == "bytes":
        data = data.replace(b"\xff", b"\xfe")  # It refuses 0xFF; see test_byte.py.
    tokens = tokenizer.encode_bytes(data)
    assert tokenizer.decode_bytes(tokens) == data
    assert tokenizer.decode(tokens) == data.decode(errors="replace")
    assert tokenizer.end_of_text not in tokens


@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "\n",
        "\t",
        "\r\n",
        "\n\r",
        " \n",
        "\n\t ",
        "  \r\n\n\t",
        "\u00a0",
        "\u3000",
        "=",
        "e\u0301",
    ],
)
@pytest.mark.parametrize("end", ["", "x", "  x\n"])
def test_10000_long_runs_come_back(every_tokenizer: Tokenizer, unit: str, end: str):
    text = (unit * 10_000)[:10_000] + end
    for whole in (text, "x" + text):
        tokens = every_tokenizer.encode(whole)
        assert every_tokenizer.decode(tokens) == kept(every_tokenizer, whole)
        assert every_tokenizer.encode_bytes(whole.encode()) == tokens


@ONCE
@given(texts=st.lists(TEXT, max_size=5))
def test_a_batch_gives_the_tokens_of_each_text(tokenizer: Tokenizer, texts: list[str]):
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@ONCE
@given(data=st.data())
def test_decoding_joins_the_bytes_of_the_tokens(tokenizer: Tokenizer, data: st.DataObject):
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    joined = b"".join(map(tokenizer.token_bytes, tokens))
    assert tokenizer.decode_bytes(tokens) == joined
    assert tokenizer.decode(tokens) == joined.decode(errors="replace")


def test_the_end_of_text_is_token_zero_and_stands_for_no_text(tokenizer: Tokenizer):
    assert tokenizer.end_of_text == 0
    assert tokenizer.token_bytes(0) == b""
    assert tokenizer.decode([0, *tokenizer.encode("a"), 0, *tokenizer.encode("b")]) == "ab"


def test_every_token_of_the_vocabulary_can_be_decoded(tokenizer: Tokenizer):
    assert tokenizer.decode_bytes(range(tokenizer.vocab_size))


@pytest.mark.parametrize("offset", [-1, 0, 10**12])
def test_a_token_of_another_tokenizer_is_refused(tokenizer: Tokenizer, offset: int):
    token = -1 if offset < 0 else tokenizer.vocab_size + offset
    expected = f"a token must be in 0 … {tokenizer.vocab_size - 1}, got {token}; was it made by"
    with pytest.raises(TokenizerError, match=expected):
        tokenizer.decode([1, token])
    with pytest.raises(TokenizerError, match=expected):
        tokenizer.token_bytes(token)


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer):
    expected = r"must not hold lone surrogates.* but character 2 is '\\udc80'; read the text as"
    with pytest.raises(TokenizerError, match=expected):
        tokenizer.encode("é \udc80x")
    with pytest.raises(TokenizerError, match=expected):
        tokenizer.encode_batch(["fine", "é \udc80x"])


def test_a_saved_tokenizer_is_loaded_again_the_same(tokenizer: Tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer("bytes" if tokenizer.name == "bytes" else tmp_path)
    assert loaded.name == tokenizer.name
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.sha256 == tokenizer.sha256
    text = "then the abcdefg ==== <|endoftext|>\n\n é漢字"
    assert loaded.encode(text) == tokenizer.encode(text)
    folder = tmp_path / "again"
    folder.mkdir()
    loaded.save(folder)
    for file in tmp_path.glob("*.*"):
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_saving_where_there_is_no_folder_is_an_error_of_the_system(
    small_world: Tokenizer, small_bpe: Tokenizer, tmp_path
):
    for tokenizer in (small_world, small_bpe):
        with pytest.raises(FileNotFoundError):
            tokenizer.save(tmp_path / "absent")


def test_different_tokenizers_have_different_sha256(small_world: Tokenizer, small_bpe: Tokenizer):
    hashes = {small_world.sha256, small_bpe.sha256, load_tokenizer("bytes").sha256}
    assert len(hashes) == 3
    assert all(len(bytes.fromhex(digest)) == 32 for digest in hashes)

"""Byte-level BPE, beside the `tokenizers` library used directly."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receptance.errors import TokenizerError
from receptance.tokenizer import BPETokenizer, Tokenizer
from receptance.tokenizer.pieces import PIECE_CHARACTERS, pieces


@pytest.fixture(scope="module")
def library(shared_data: Path) -> tokenizers.Tokenizer:
    """Return the NeoX tokenizer as the library reads it, told that text is text."""
    path = shared_data / "tokenizers" / "20B_tokenizer.json"
    library = tokenizers.Tokenizer.from_file(str(path))
    library.encode_special_tokens = True
    return library


@pytest.fixture
def changed(small_bpe: BPETokenizer, tmp_path) -> Callable[[Callable[[dict[str, Any]], Any]], Path]:
    """Return a function that writes the small tokenizer with a change to its JSON."""

    def write(change: Callable[[dict[str, Any]], Any]) -> Path:
        small_bpe.save(tmp_path)
        path = tmp_path / "tokenizer.json"
        parsed = json.loads(path.read_text())
        change(parsed)
        path.write_text(json.dumps(parsed))
        return path

    return write


def test_real_text_has_the_tokens_of_the_library(
    neox: Tokenizer, library: tokenizers.Tokenizer, megabytes: list[str]
):
    for text in megabytes:  # Each in some sixty pieces for us, and in one for the library.
        tokens = neox.encode(text)
        assert tokens == library.encode(text).ids
        assert library.normalizer is not None
        assert neox.decode(tokens) == library.normalizer.normalize_str(text)


def test_20000_random_texts_have_the_tokens_of_the_library(
    neox: Tokenizer, library: tokenizers.Tokenizer
):
    random = Random(50277)
    blocks = [*range(0, 0xD800, 64), *range(0xE000, 0x110000, 64)]
    texts = [
        "".join(
            chr(block + random.randrange(64))
            for block in random.choices(
                (0, 64, *random.choices(blocks, k=3)), k=random.randrange(40)
            )
        )
        for _ in range(20_000)
    ]
    wanted = library.encode_batch_fast(texts, add_special_tokens=False)
    assert neox.encode_batch(texts) == [encoding.ids for encoding in wanted]


# What stands beside a cut, and what could reach over one: marks, joiners, digits and letters of
# scripts old and new, runs of white space of every kind, apostrophes, and the added tokens.
LETTERS = "azAZ09Жүأعあんアヺ字龥가힣²\u0301\u0345\u3099\u1161\u11a8\u093f"
BETWEEN = " \n\r\t.,，。、'_-:<|>\u00a0\u2028\u3000\u200d"
WORDS = [" " * 2, " " * 23, " " * 25, "'s", "'ll", "\r\n", "<|endoftext|>", "<|padding|>"]
BESIDE_CUTS = st.sampled_from([*LETTERS, *BETWEEN, *WORDS])


@settings(deadline=None, max_examples=1000)
@given(text=st.lists(BESIDE_CUTS, max_size=30).map("".join))
@example("字\u3099. a\u0301, 가\u11a8 one" + " " * 30 + "two\n .")
def test_the_smallest_pieces_have_the_tokens_of_the_whole(library: tokenizers.Tokenizer, text: str):
    apart = [token for piece in pieces(text, 1) for token in library.encode(piece).ids]
    assert apart == library.encode(text).ids


def test_the_smallest_pieces_of_real_text_have_the_tokens_of_the_whole(
    library: tokenizers.Tokenizer, wikitext: str
):
    cut = list(pieces(wikitext, 1))
    assert len(cut) > 100_000
    apart = library.encode_batch_fast(cut, add_special_tokens=False)
    assert [token for encoding in apart for token in encoding.ids] == library.encode(wikitext).ids


@settings(deadline=None)
@given(text=st.text() | st.text(alphabet=" \n\tab.,'é\u0301漢1"))
@example("    if x:\n                return  1\n" * 3)
def test_any_text_has_the_tokens_of_the_library(
    neox: Tokenizer, library: tokenizers.Tokenizer, text: str
):
    tokens = neox.encode(text)
    assert tokens == library.encode(text, add_special_tokens=False).ids
    assert library.normalizer is not None
    assert neox.decode(tokens) == library.normalizer.normalize_str(text)


@settings(deadline=None)
@given(data=st.data())
def test_any_tokens_have_the_text_of_the_library(
    neox: Tokenizer, library: tokenizers.Tokenizer, data: st.DataObject
):
    tokens = data.draw(st.lists(st.integers(0, neox.vocab_size - 1)))
    assert neox.decode(tokens) == library.decode(tokens)


def test_neox_has_50277_tokens_with_runs_of_spaces_among_them(neox: Tokenizer):
    assert neox.vocab_size == 50277
    assert neox.end_of_text == 0
    assert neox.token_bytes(50276) == b"  "
    assert neox.encode(" " * 24) == [50254]
    assert neox.token_bytes(187) == b"\n"


def test_special_tokens_written_in_a_text_are_text(neox: Tokenizer):
    for text in ("<|endoftext|>", "<|padding|>", "a<|endoftext|>\n<|padding|>b"):
        tokens = neox.encode(text)
        assert not {0, 1} & set(tokens)
        assert neox.decode(tokens) == text
    assert neox.decode([0, 1]) == ""


def test_neox_composes_accents(neox: Tokenizer):
    assert neox.decode(neox.encode("cafe\u0301")) == "caf\u00e9"


# Table 3-7 of the Unicode standard: all byte sequences that are UTF-8.
UTF8 = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+"
)
NO_TOKENS = {0xC0, 0xC1, *range(0xF5, 0x100)}
BROKEN = st.lists(st.binary(max_size=3) | st.text(max_size=5).map(str.encode)).map(b"".join)


@pytest.fixture(scope="module")
def single(neox: Tokenizer) -> dict[bytes, int]:
    """Return the tokens of one byte."""
    meaning = ((token, neox.token_bytes(token)) for token in range(neox.vocab_size))
    return {token_bytes: token for token, token_bytes in meaning if len(token_bytes) == 1}


@settings(deadline=None, max_examples=500)
@given(data=BROKEN | st.binary())
@example("e\u0301".encode() + b"\xcc" + "\u0301a".encode() + b"\xed\xa0\x80\xf0\x9f\x99")
@example(b"\xfe")
def test_bytes_are_the_texts_and_the_single_bytes_between_them(
    neox: Tokenizer, library: tokenizers.Tokenizer, single: dict[bytes, int], data: bytes
):
    tokens: list[int] = []
    place = 0
    while place < len(data):
        if stretch := UTF8.match(data, place):
            tokens += library.encode(stretch[0].decode()).ids
            place = stretch.end()
        elif data[place] not in NO_TOKENS:
            tokens.append(single[data[place : place + 1]])
            place += 1
        else:
            expected = f"but byte {place} is 0x{data[place]:02X}, for which"
            with pytest.raises(TokenizerError, match=expected):
                neox.encode_bytes(data)
            return
    assert neox.encode_bytes(data) == tokens


def test_every_byte_that_can_be_in_utf8_has_a_token_of_its_own(neox: Tokenizer):
    for byte in set(range(256)) - NO_TOKENS:
        (token,) = neox.encode_bytes(bytes([byte]))
        assert neox.token_bytes(token) == bytes([byte])
    with pytest.raises(TokenizerError) as caught:
        neox.encode_bytes("é漢".encode() + b"\x80\xffx")
    assert str(caught.value) == (
        "bytes must be UTF-8 or have tokens of their own, but byte 6 is 0xFF, for which this "
        "vocabulary has none; read the text as UTF-8 with errors='replace'"
    )


def test_a_vocabulary_with_all_bytes_takes_any_bytes(small_bpe: BPETokenizer):
    data = bytes(range(256)) * 2
    assert small_bpe.decode_bytes(small_bpe.encode_bytes(data)) == data


def test_a_long_text_among_short_ones_keeps_its_place(neox: Tokenizer, wikitext: str):
    texts = ["first", wikitext[: 4 * PIECE_CHARACTERS], "", "last"]
    batch = neox.encode_batch(texts)
    assert [neox.decode(tokens) for tokens in batch] == texts


@settings(deadline=None, max_examples=15)
@given(unit=st.text(alphabet=" \n\tab.,'_é\u0301漢1:<|>", min_size=1, max_size=8))
@example("word ")
@example("字。\n")
@example("f(x):\r\n    return 1.0, 'é'\n")
def test_cutting_a_long_text_changes_no_token(small_bpe: BPETokenizer, unit: str):
    text = unit * (2 * PIECE_CHARACTERS // len(unit) + 2)
    whole = tokenizers.Tokenizer.from_str(small_bpe._canonical)
    assert small_bpe.encode(text) == whole.encode(text).ids


def test_the_file_is_saved_as_it_was_read(neox: Tokenizer, shared_data: Path, tmp_path):
    neox.save(tmp_path)
    original = shared_data / "tokenizers" / "20B_tokenizer.json"
    assert (tmp_path / "tokenizer.json").read_bytes() == original.read_bytes()


def test_the_layout_of_the_file_is_not_part_of_the_tokenizer(small_bpe: BPETokenizer, changed):
    reordered = changed(lambda json: json.update(version=json.pop("version")))
    assert BPETokenizer.load(reordered).sha256 == small_bpe.sha256


def test_truncation_padding_and_dropout_in_the_file_are_ignored(small_bpe: BPETokenizer, changed):
    def change(json: dict[str, Any]) -> None:
        json["truncation"] = {
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
        }  # fmt: skip
        json["padding"] = {
            "strategy": {"Fixed": 100}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 5, "pad_type_id": 0, "pad_token": "x",
        }  # fmt: skip
        json["model"]["dropout"] = 0.5

    tokenizer = BPETokenizer.load(changed(change))
    text = "def change(json) -> None:\n    pass\n"
    assert tokenizer.encode(text) == small_bpe.encode(text)
    assert tokenizer.sha256 == small_bpe.sha256


def set_in(*keys: str | int, to: object) -> Callable[[Any], None]:
    """Return a change of one place in JSON."""

    def change(json: Any) -> None:
        for key in keys[:-1]:
            json = json[key]
        json[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("model", "type", to="WordPiece"), "with `model` of type 'BPE', got 'WordPiece'"),
        (set_in("model", to=None), "with `model` of type 'BPE', got None"),
        (set_in("decoder", to=None), "with `decoder` of type 'ByteLevel', got None"),
        (set_in("decoder", to={"type": "Metaspace"}), "of type 'ByteLevel', got 'Metaspace'"),
        (set_in("model", "vocab", to=[]), "must be one that `tokenizers` can read: "),
        (set_in("model", "merges", to=[["é", "x"]]), "must be one that `tokenizers` can read: "),
        (set_in("added_tokens", to=3), "must be one that `tokenizers` can read: "),
        (
            set_in("model", "continuing_subword_prefix", to="##"),
            "a byte-level BPE must have no `continuing_subword_prefix`, got '##'",
        ),
        (
            set_in("added_tokens", 0, "special", to=False),
            "a special token must not come from text, but encoding '<|endoftext|>' gives one; mark "
            'it `"special": true` in `added_tokens`',
        ),
        (
            set_in("normalizer", to={"type": "Lowercase"}),
            "a tokenizer must give back the text that it encodes (NFC aside), but ' Receptance",
        ),
        (
            set_in("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", to=True),
            "a tokenizer must give back the text that it encodes",
        ),
        (
            set_in("pre_tokenizer", to={"type": "WhitespaceSplit"}),
            "a tokenizer must give back the text that it encodes",
        ),
        (
            set_in("model", "vocab", "un written", to=5000),
            "a token must be written in the byte-level alphabet, got 'un written'",
        ),
        (set_in("model", "vocab", "zz", to=99), "an id must be in 0 … 1048575 and come once"),
        (set_in("model", "vocab", "zz", to=2**30), "and come once, got 1073741824 for 'zz'"),
    ],
)
def test_a_file_that_is_not_byte_level_bpe_is_refused(changed, change, message: str):
    path = changed(change)
    with pytest.raises(TokenizerError) as caught:
        BPETokenizer.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_special_token_that_is_also_a_word_is_refused(changed):
    def add(json: dict[str, Any]) -> None:
        token = json["added_tokens"][0] | {"content": "re", "id": json["model"]["vocab"]["re"]}
        json["added_tokens"].append(token)

    with pytest.raises(TokenizerError, match="must not come from text, but encoding 're' gives"):
        BPETokenizer.load(changed(add))


def rename_in(vocabulary: dict[str, int], old: str, new: str) -> None:
    """Give the id of a token to another one."""
    vocabulary[new] = vocabulary.pop(old)


def test_a_vocabulary_without_a_byte_is_refused(changed):
    path = changed(lambda json: rename_in(json["model"]["vocab"], "~", "~~~"))
    with pytest.raises(TokenizerError, match=r"single bytes of UTF-8.* 1 are missing, b'~' among"):
        BPETokenizer.load(path)


def test_a_tokenizer_without_an_end_of_text_is_refused(changed):
    def remove(json: dict[str, Any]) -> None:
        json["added_tokens"] = []
        rename_in(json["model"]["vocab"], "<|endoftext|>", "<|end|>")

    with pytest.raises(TokenizerError, match=r"'<\|endoftext\|>' as token 0, but there is none"):
        BPETokenizer.load(changed(remove))


def test_an_end_of_text_that_is_not_token_zero_is_refused(changed):
    def swap(json: dict[str, Any]) -> None:
        json["model"]["vocab"] |= {"<|endoftext|>": 1, "!": 0}
        json["added_tokens"][0]["id"] = 1

    with pytest.raises(TokenizerError, match=r"as token 0, but it is token 1"):
        BPETokenizer.load(changed(swap))


@pytest.mark.parametrize("kept", [0, 1, 5000])
def test_a_file_cut_short_is_refused(small_bpe: BPETokenizer, tmp_path, kept: int):
    small_bpe.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: a tokenizer must be JSON: "):
        BPETokenizer.load(path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "t.json").write_bytes(b"{\xff}")
    with pytest.raises(TokenizerError, match=r"t\.json: a tokenizer must be UTF-8, but byte 1 is"):
        BPETokenizer.load(tmp_path / "t.json")
    for content in ("[]", "[" * 100_000):
        with pytest.raises(TokenizerError, match="a tokenizer must be"):
            BPETokenizer(content)

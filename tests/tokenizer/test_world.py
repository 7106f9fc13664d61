"""The World vocabulary: its file, and its tokens beside those of the `rwkv` package."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.errors import TokenizerError
from receptance.tokenizer import Tokenizer, WorldTokenizer, load_tokenizer

MULTILINGUAL = (
    "今天天气很好。Привет, мир! こんにちは世界 안녕하세요 नमस्ते สวัสดี שלום مرحبا "
    "👩‍👩‍👧 café cafe\u0301 \u00a0\u2028\x85\t\r\n\0 ﷽ 𝔘𝔫𝔦 \U0010ffff\n\n\n        return x\n"
)

# From every block that has one of the tokens, and beyond.
CHARACTERS = [
    *range(0x20, 0x250),
    *range(0x370, 0x600),
    *range(0x4E00, 0x9FA6),
    *range(0x1F300, 0x1F700),
]


@pytest.fixture(scope="module")
def official(world_file: Path) -> Any:
    """Return the trie of the authors' package, for the file that comes with it."""
    oracle = pytest.importorskip("rwkv.rwkv_tokenizer", reason="needs the `rwkv` package")
    return oracle.TRIE_TOKENIZER(world_file)


def test_code_and_many_languages_have_the_tokens_of_the_official_tokenizer(
    world: Tokenizer, official: Any
):
    for text in (Path(__file__).read_text(), MULTILINGUAL):
        assert world.encode(text) == official.encode(text)


def test_real_text_has_the_tokens_of_the_official_tokenizer(
    world: Tokenizer, official: Any, megabytes: list[str]
):
    for text in megabytes:
        tokens = world.encode(text)
        assert tokens == official.encode(text)
        assert world.decode(tokens) == text


@settings(deadline=None)
@given(text=st.text() | st.text(alphabet=MULTILINGUAL + "=-*#/ abc"))
def test_any_text_has_the_tokens_of_the_official_tokenizer(
    world: Tokenizer, official: Any, text: str
):
    assert world.encode(text) == official.encode(text)


def byte_strings(n: int, words: list[bytes]) -> Iterator[bytes]:
    """Yield `n` byte strings of five kinds: what a vocabulary of `words` may stumble over."""
    random = Random(20230424)
    kinds = (
        lambda size: random.randbytes(size),
        lambda size: "".join(map(chr, random.choices(CHARACTERS, k=size))).encode(),
        # Words cut anywhere: false starts, which fall into shorter tokens.
        lambda size: b"".join(word[: random.randint(1, len(word) + 3)] for word in few(size)),
        # Words of which the middle is gone, so that one runs into the next.
        lambda size: b"".join(few(size))[random.randrange(4) :: random.randint(1, 2)],
        lambda size: b"".join(random.choices((b" ", b"\n", b"\t", b"\r\n", b"=", b"a"), k=size)),
    )

    def few(size: int) -> list[bytes]:
        return random.choices(words, k=1 + size // 5)

    for number in range(n):
        yield kinds[number % len(kinds)](random.choice((1, 2, 3, 10, 25, 60)))


def test_100000_random_byte_strings_have_the_tokens_of_the_official_tokenizer(
    world: Tokenizer, official: Any
):
    seen: set[int] = set()
    for data in byte_strings(100_000, list(official.token2idx)):
        tokens = world.encode_bytes(data)
        assert tokens == official.encodeBytes(data), data
        assert world.decode_bytes(tokens) == data
        seen.update(tokens)
    # They would be worth little if they came to a corner of the vocabulary alone.
    assert len(seen) > 0.75 * len(official.token2idx)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_bytes_have_the_tokens_of_the_official_tokenizer(
    world: Tokenizer, official: Any, data: st.DataObject
):
    token = st.integers(1, 65529)
    drawn = data.draw(st.lists(st.tuples(token, st.integers(0, 3)) | st.binary(max_size=3)))
    joined = b"".join(
        each if isinstance(each, bytes) else world.token_bytes(each[0])[: -each[1] or None]
        for each in drawn
    )
    assert world.encode_bytes(joined) == official.encodeBytes(joined)


def test_every_token_has_the_bytes_of_the_official_tokenizer(world: Tokenizer, official: Any):
    assert {token: world.token_bytes(token) for token in official.idx2token} == official.idx2token


def test_the_published_file_has_the_rows_of_the_published_models(world: Tokenizer):
    assert world.vocab_size == 65536
    assert world.decode_bytes([0, 65530, 65535]) == b""


def test_the_published_file_is_saved_byte_for_byte(world: Tokenizer, world_file: Path, tmp_path):
    world.save(tmp_path)
    assert (tmp_path / world_file.name).read_bytes() == world_file.read_bytes()


def test_the_file_of_the_package_and_the_one_of_the_models_are_the_same_tokenizer(
    world: Tokenizer, shared_data: Path
):
    path = shared_data / "tokenizers" / "rwkv_vocab_v20230424.txt"
    assert load_tokenizer(path).sha256 == world.sha256


def test_ids_are_those_of_the_lines_and_rows_a_multiple_of_64(small_world: WorldTokenizer):
    assert small_world.encode("a") == [98]
    assert small_world.encode("then them") == [258, 111, 259, 110]
    assert small_world.encode("===== " + "=" * 16) == [263, 62, 33, 264]
    assert small_world.token_bytes(257) == b""
    assert small_world.vocab_size == 320


def test_line_ends_of_windows_change_the_file_but_not_the_tokenizer(
    small_world: WorldTokenizer, world_lines: tuple[str, ...], tmp_path
):
    content = "\r\n".join([*world_lines, ""]).encode()
    windows = WorldTokenizer(content)
    assert windows.sha256 == small_world.sha256
    windows.save(tmp_path)
    assert (tmp_path / "rwkv_vocab_v20230424.txt").read_bytes() == content


def test_another_id_or_another_token_is_another_tokenizer(
    small_world: WorldTokenizer, world_lines: tuple[str, ...]
):
    for line in ("999 '漢字' 6", "269 '字漢' 6"):
        changed = WorldTokenizer("\n".join([*world_lines[:-1], line]).encode())
        assert changed.sha256 != small_world.sha256


def test_literals_are_read_as_python_writes_them(world_lines: tuple[str, ...]):
    written = [
        "a\nb",
        "it's",
        '""',
        "'\"",
        "\\\\",
        "\\n",
        "\u2028",
        "\x85\x00",
        "\U0010ffff",
        b"\xe6\xbc'",
    ]
    numbered = enumerate(written, start=300)
    lines = [
        f"{number} {token!r} {len(token if isinstance(token, bytes) else token.encode())}"
        for number, token in numbered
    ]
    tokenizer = WorldTokenizer("\n".join([*world_lines, *lines]).encode())
    for number, token in enumerate(written, start=300):
        wanted = token if isinstance(token, bytes) else token.encode()
        assert tokenizer.token_bytes(number) == wanted


@pytest.mark.parametrize(
    "line",
    [
        "",
        "300",
        "300 'the'",
        "300 the 3",
        "x 'the' 3",
        "-300 'the' 3",
        "300  'the' 3",
        "300 'the' 3 ",
        "300 'th'e' 5",
        "300 'the\" 3",
        "300 'th' 'e' 3",
        "300 ('the') 3",
        "300 f'the' 3",
        "300 __import__('os').system('true') 3",
        "300 '\\q' 2",
        "300 '\\ud800' 3",
        "300 '\\U00110000' 4",
        "300 b'\\u1234' 6",
        "300 b'é' 2",
        "300 '\\' 1",
        "3" * 5000 + " 'the' 3",
    ],
)
def test_a_line_of_another_form_is_refused_and_never_evaluated(
    line: str, world_lines: tuple[str, ...]
):
    content = "\n".join([*world_lines[:2], line, *world_lines[2:]]).encode()
    with pytest.raises(TokenizerError) as caught:
        WorldTokenizer(content, source="some/vocabulary.txt")
    assert str(caught.value) == (
        "some/vocabulary.txt:3: a line must be `id literal length`, the literal as Python's "
        f"repr() writes a str or bytes, as in `300 'the' 3`, got {line[:80]!r}"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 'zero' 4", "v.txt:269: an id must be in 1 … 1048575 (0 is the end of a text), got 0"),
        ("99999999 'x' 1", "an id must be in 1 … 1048575 (0 is the end of a text), got 99999999"),
        ("300 '' 0", "v.txt:269: a token must have at least one byte, got \"300 '' 0\""),
        (f"300 '{'x' * 1025}' 1025", "v.txt:269: a token must have at most 1024 bytes, got 1025"),
        ("300 'né' 2", "v.txt:269: the length must be 3, the token's bytes, got 2"),
        ("98 'new' 3", "v.txt:269: an id must come once, but 98 is in line 98"),
        ("300 'them' 4", "v.txt:269: a token must come once, but b'them' is in line 259"),
    ],
)
def test_a_wrong_line_is_named_with_what_it_must_be(
    line: str, message: str, world_lines: tuple[str, ...]
):
    assert len(world_lines) == 268
    with pytest.raises(TokenizerError) as caught:
        WorldTokenizer("\n".join([*world_lines, line]).encode(), source="v.txt")
    assert message in str(caught.value)


def test_missing_single_bytes_are_refused(world_lines: tuple[str, ...]):
    with pytest.raises(TokenizerError) as caught:
        WorldTokenizer("\n".join([*world_lines[:100], *world_lines[102:]]).encode(), source="v.txt")
    assert str(caught.value) == (
        "v.txt: a vocabulary must have all 256 single bytes, so that it can express any text, but "
        "2 are missing, b'd' among them"
    )


def test_an_empty_file_and_one_that_is_not_text_are_refused(tmp_path):
    with pytest.raises(TokenizerError, match="but 256 are missing"):
        WorldTokenizer(b"")
    (tmp_path / "v.txt").write_bytes(b"1 '\xff' 1\n")
    with pytest.raises(TokenizerError, match=r"v\.txt: a vocabulary must be UTF-8, but byte 3 is"):
        WorldTokenizer.load(tmp_path / "v.txt")

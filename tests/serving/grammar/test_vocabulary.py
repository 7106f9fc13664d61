"""The tokenizers as llguidance sees them."""

from receptance.serving.grammar.compiler import GrammarCompiler
from receptance.serving.grammar.vocabulary import llguidance_tokenizer
from receptance.tokenizer import BytesTokenizer, WorldTokenizer


def test_every_byte_is_its_token_and_the_end_of_a_text_is_none():
    vocabulary = llguidance_tokenizer(BytesTokenizer())
    assert (vocabulary.vocab_size, vocabulary.eos_token) == (256, 0)
    assert vocabulary.decode_bytes([255, 0x61]) == b"\0a"
    assert vocabulary.is_special_token(0)


def test_tokens_of_several_bytes_and_of_none_are_told_apart():
    lines = [f"{byte + 1} {bytes([byte])!r} 1" for byte in range(256)]
    lines += ["257 'ab' 2", "258 '漢' 3"]
    world = WorldTokenizer("\n".join(lines).encode())
    assert world.vocab_size == 320
    allowed = GrammarCompiler(world).regex("ab|漢|aa").start().allowed()
    first = world.encode("漢")[0]
    assert allowed.shape == (320,)
    assert allowed.nonzero()[:, 0].tolist() == sorted([ord("a") + 1, 0xE6 + 1, 257, first])

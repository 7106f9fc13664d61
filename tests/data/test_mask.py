import pytest

from receptance.data.mask import count_first
from receptance.tokenizer import train_bpe

TOKENIZER = train_bpe(["the cat sat on the mat and the dog ate the hat. "] * 9, 280)


@pytest.mark.parametrize("n_bytes", range(14))
def test_a_token_that_begins_within_the_first_bytes_counts(n_bytes: int) -> None:
    tokens = TOKENIZER.encode("the cat sat")
    lengths = [len(TOKENIZER.decode_bytes([token])) for token in tokens]
    begins = [sum(lengths[:index]) for index in range(len(tokens))]

    counted = count_first(tokens, n_bytes, TOKENIZER)

    assert len(tokens) < 11
    assert counted.n_tokens == sum(begin < n_bytes for begin in begins)
    assert counted.n_bytes == sum(lengths[: counted.n_tokens])

"""A tokenizer of this package as llguidance sees it."""

import llguidance

from receptance.tokenizer import Tokenizer


class _Vocabulary:
    """What llguidance asks of a tokenizer, which is duck-typed."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self.special_token_ids = [token for token, data in enumerate(self.tokens) if not data]
        self.eos_token_id = tokenizer.end_of_text
        self.bos_token_id = None
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        """Return the tokens of a text; llguidance asks once with bytes, to see if it may."""
        data = text.encode() if isinstance(text, str) else text
        return self._tokenizer.encode_bytes(data)


def llguidance_tokenizer(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    """Return the tokens as a tree of bytes, which takes a moment to make.

    Tokens that stand for no bytes are never allowed; the end of a text is, where it may end.

    Args:
        tokenizer: Of any kind.
    """
    wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokenizer))
    return llguidance.LLTokenizer(wrapper, n_vocab=tokenizer.vocab_size)

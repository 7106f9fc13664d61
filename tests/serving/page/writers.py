"""Models that write nothing but the words that a test chose."""

from collections.abc import Sequence

import torch

from receptance.inference import LanguageModel
from receptance.tokenizer import BytesTokenizer
from receptance.tokenizer.token_table import TokenTable
from tests.random_models import random_rwkv4


class WordsTokenizer(BytesTokenizer):
    """Reads bytes, and has a token for each word as well, which only a model writes."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        tokens = {token: self._table.join((token,)) for token in range(1, 256)}
        tokens |= {256 + index: word.encode() for index, word in enumerate(words)}
        self.vocab_size = 256 + len(words)
        self._table = TokenTable(tokens, self.vocab_size)


def writer_of(words: Sequence[str]) -> LanguageModel:
    """Return a random model whose answers depend on what it read, but are made of these words."""
    tokenizer = WordsTokenizer(words)
    model = random_rwkv4(3, 32, tokenizer.vocab_size)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("time_decay"):  # forgets slowly, so that what was said long ago tells
                parameter.fill_(-4.0)
            elif name.endswith("time_first"):
                parameter.fill_(-2.0)
        # All that the last layer says has this part, of which the words know nothing and bytes
        # the contrary.
        model.ln_out.bias.fill_(8.0)
        model.head.weight[256:] -= model.head.weight[256:].mean(1, keepdim=True)
        model.head.weight[:256] = -1.0
    return LanguageModel(model, tokenizer, chunk_tokens=64)

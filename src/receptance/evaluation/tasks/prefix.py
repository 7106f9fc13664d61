"""What is fed before every context: a convention that moves figures, and so is always told."""

from receptance.errors import ConfigError
from receptance.tokenizer import Tokenizer

NONE, END_OF_TEXT = "none", "end_of_text"


def parse_prefix(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    r"""Return the tokens of a prefix that is named in words.

    Args:
        text: "none", "end_of_text", token ids with commas between them, or else a text in which
            \n and \t are understood.
        tokenizer: Of the model.

    Raises:
        ConfigError: If an id is not in the vocabulary, or the text has no token.
    """
    if text == NONE:
        return ()
    if text == END_OF_TEXT:
        return (tokenizer.end_of_text,)
    parts = [each.strip() for each in text.split(",")]
    if all(each.isascii() and each.isdigit() for each in parts):
        tokens = tuple(map(int, parts))
    else:
        tokens = tuple(tokenizer.encode(text.replace(r"\n", "\n").replace(r"\t", "\t")))
    if not tokens or max(tokens) >= tokenizer.vocab_size:
        raise ConfigError(
            f"a context's prefix must be {NONE!r}, {END_OF_TEXT!r}, token ids below "
            f"{tokenizer.vocab_size} with commas between them, or a text, but it is {text!r}"
        )
    return tokens

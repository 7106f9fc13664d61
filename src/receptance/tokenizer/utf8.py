"""Text as UTF-8, with a refusal that says where text cannot be."""

from receptance.errors import TokenizerError


def utf8(text: str) -> bytes:
    """Return `text` as UTF-8.

    Args:
        text: Any text.

    Returns:
        Its UTF-8 bytes.

    Raises:
        TokenizerError: If `text` holds a lone surrogate, which UTF-8 cannot express.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = (
            f"text must not hold lone surrogates, which UTF-8 cannot express, but character "
            f"{error.start} is {text[error.start]!r}; read the text as UTF-8 with errors='replace'"
        )
        raise TokenizerError(message) from error

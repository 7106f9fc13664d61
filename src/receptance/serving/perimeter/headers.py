"""What the headers of a request say."""

from starlette.types import Scope


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Return the values of all headers of a name (in small letters), stripped, in their order."""
    return [value.strip() for key, value in scope["headers"] if key.lower() == name]

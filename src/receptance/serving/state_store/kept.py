"""What is known of a state that is kept, beside its numbers."""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

MAX_NAME_CHARACTERS = 200

_ID = re.compile(r"state-[0-9a-f]{32}")


def new_id() -> str:
    """Return an id that nobody can guess."""
    return f"state-{secrets.token_hex(16)}"


def is_id(text: str) -> bool:
    """Whether a text may be an id: then it is also the safe name of a file."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A state that somebody keeps."""

    owner: str
    name: str
    """What its owner calls it; never a path, and no two need differ."""
    tokens: int
    """How many tokens it has seen."""
    n_bytes: int
    id: str = field(default_factory=new_id)
    created: int = field(default_factory=lambda: int(time.time()))

    def object(self, model: str) -> dict[str, Any]:
        """Return what clients are told of it.

        Args:
            model: What they call the model.
        """
        return {
            "id": self.id,
            "object": "state",
            "created": self.created,
            "model": model,
            "name": self.name,
            "tokens": self.tokens,
            "bytes": self.n_bytes,
        }

"""A JSON object in a file that may be anything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from receptance.errors import CheckpointError
from receptance.tensor_file import without_repeats

# An index of the largest model has 80 KB; what is far larger is hostile, and JSON takes many times
# its size in memory.
_MAX_BYTES = 1 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, in which no key comes twice.

    Raises:
        CheckpointError: If the file is something else, or cannot be read.
    """
    if not path.is_file():  # a device or a pipe never ends
        raise CheckpointError(f"{str(path)!r} must be a regular file, but it is none")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise CheckpointError(
            f"{str(path)!r} must have at most {_MAX_BYTES} bytes, but it has {size}"
        )
    try:
        content = path.read_bytes().decode("utf-8")
        parsed = json.loads(content, object_pairs_hook=without_repeats)
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{str(path)!r} must be JSON, but it is not: {error}") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{str(path)!r} must be a JSON object, but it is {parsed!r:.60}")
    return parsed


def write_json(path: Path, entries: Mapping[str, object]) -> None:
    """Write a JSON file as `transformers` does."""
    path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")

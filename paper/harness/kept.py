"""What an experiment measured so far."""

import json
from pathlib import Path

from receptance.atomic import atomic_file


class Kept:
    """What was measured, in a file, so that a killed run goes on."""

    def __init__(self, file: Path) -> None:
        """Go on with what is in the file, if it is there."""
        self._file = file
        self._found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def get(self, key: str) -> list | None:
        """Return what was measured, or None."""
        return self._found.get(key)

    def put(self, key: str, value: list) -> None:
        """Keep what was measured, unless it is there already."""
        if key not in self._found:
            self._found[key] = value
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._file) as staged:
                staged.write_text(json.dumps(self._found), encoding="utf-8")

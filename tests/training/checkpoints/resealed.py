"""Checkpoints whose manifest was made to fit files that a test has changed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from receptance.training.checkpoints.manifest import MANIFEST_FILE


def reseal(folder: Path, **changed: Any) -> None:
    """Write the manifest of a checkpoint anew, for the files as they are; `changed` is put in."""
    entries = json.loads((folder / MANIFEST_FILE).read_text()) | changed
    del entries["sha256"]
    for name, record in entries["files"].items():
        content = (folder / name).read_bytes()
        record |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    text = json.dumps({**entries, "sha256": seal}, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text)

"""How the user would type the next command."""

import shlex
import shutil
import sys
from pathlib import Path


def command_line(*words: str) -> str:
    """Return a `receptance` command as it can be typed here, quoted for the shell."""
    return shlex.join([*_program(), *words])


def _program() -> list[str]:
    """Return the way in which this process was started."""
    started = sys.argv[0]
    if Path(started).name == "__main__.py":
        return ["python", "-m", "receptance"]
    on_path = shutil.which("receptance")
    if on_path is not None and Path(on_path).resolve() == Path(started).resolve():
        return ["receptance"]
    return [started]

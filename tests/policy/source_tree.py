"""The files that belong to the project, for tests that read them."""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "receptance"

# What tools leave behind, and what a user makes.
GENERATED = {"__pycache__", "build", "dist", "runs", "node_modules"}
TEXT_SUFFIXES = {
    "", ".py", ".pyi", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".cfg", ".ini", ".sh",
    ".cpp", ".h", ".hpp", ".cff", ".cmake", ".html",
}  # fmt: skip


@cache
def project_files() -> tuple[Path, ...]:
    """Return every file but what is generated, in order."""
    return tuple(sorted(_walk()))


def _walk() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [each for each in folders if each not in GENERATED and not _is_private(each)]
        yield from (Path(folder, name) for name in names if Path(name).suffix != ".so")


def _is_private(folder: str) -> bool:
    return folder.startswith(".") and folder != ".ci"


def text_files() -> list[Path]:
    """Return the files that are written by hand, as text."""
    return [path for path in project_files() if path.suffix in TEXT_SUFFIXES]


def python_files(*folders: str) -> list[Path]:
    """Return the Python files under these folders of the project, or all of them."""
    roots = [ROOT / folder for folder in folders] or [ROOT]
    files = [path for path in project_files() if path.suffix == ".py"]
    return [path for path in files if any(path.is_relative_to(root) for root in roots)]


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    """Return a file's name from the root of the project, for messages."""
    return path.relative_to(ROOT).as_posix()

"""Which files a list of files and folders names."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from receptance.errors import DataError


def find_files(path: Path, *, globs: Sequence[str], excluding: set[Path]) -> list[Path]:
    """Return the files that `path` names: itself, or every file below it in sorted order.

    Folders are walked without following links to folders. In one that `save_to_disk` of `datasets`
    wrote, what only describes the tables is passed over. A file that is not regular (a socket,
    a broken link) is passed over.

    Args:
        path: A file or a folder.
        globs: Patterns such as `*.py`; a file below a folder is taken if one matches its name, or,
            for a pattern with a slash, its path from the folder. Empty takes every file.
        excluding: Resolved paths of files and folders to pass over. Every file returned is added.

    Raises:
        DataError: If there is nothing at `path`, or something that is neither file nor folder.
    """
    if path.is_dir():
        files = _walk(path, globs, excluding)
    elif path.is_file():
        files = [path]
    elif path.exists():
        raise DataError(f"{str(path)!r} must be a regular file or a folder, for it is read twice")
    else:
        raise DataError(f"no file or folder at {str(path)!r}{_neighbours(path)}")
    return [file for file in files if _is_new(file, excluding)]


def _walk(top: Path, globs: Sequence[str], excluding: set[Path]) -> list[Path]:
    """Return the regular files below a folder, in sorted order."""
    found: list[Path] = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(
            name for name in folders if Path(folder, name).resolve() not in excluding
        )
        paths = (Path(folder, name) for name in sorted(set(names) - _descriptions(names)))
        found += [
            path
            for path in paths
            if is_matched(path.relative_to(top).as_posix(), globs) and path.is_file()
        ]
    return found


def _descriptions(names: Sequence[str]) -> set[str]:
    """Return which files of a folder say what `datasets` has saved there, and are no text."""
    saved = {"dataset_info.json", "state.json"}
    is_saved = saved <= set(names) and any(name.endswith(".arrow") for name in names)
    return {"dataset_dict.json", *(saved if is_saved else ())}


def is_matched(file: str, globs: Sequence[str]) -> bool:
    """Tell whether a file is taken.

    Args:
        file: Its path from the folder that was named.
        globs: Patterns as `find_files` takes them; none takes every file.
    """
    name = file.rpartition("/")[2]
    return not globs or any(
        fnmatchcase(file if "/" in pattern else name, pattern) for pattern in globs
    )


def _is_new(file: Path, excluding: set[Path]) -> bool:
    """Tell whether a file was not seen before, and remember it."""
    resolved = file.resolve()
    if resolved in excluding:
        return False
    excluding.add(resolved)
    return True


def _neighbours(path: Path) -> str:
    """Return a hint at what is where the path should be."""
    if not path.parent.is_dir():
        return f": the folder {str(path.parent)!r} does not exist"
    names = sorted(entry.name for entry in path.parent.iterdir())
    more = "" if len(names) <= 5 else f" and {len(names) - 5} more"
    return f"; {str(path.parent)!r} holds {names[:5]}{more}"

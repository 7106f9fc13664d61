"""Data sets of the Hugging Face hub: which files of a repository are text to train on."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from receptance.checkpoint.hub.names import HubName, parse_dataset
from receptance.data import jsonl, tables
from receptance.data.files import is_matched
from receptance.errors import CheckpointError, DataError

_RECORDS = (*tables.SUFFIXES, *jsonl.SUFFIXES)
_SUFFIXES = (*_RECORDS, ".txt", ".txt.gz")
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
# Of an older `push_to_hub` a fingerprint comes after it, another one in each file.
_SHARD = re.compile(r"(.*[-._])(\d+)-of-(\d+)(?:-[0-9a-f]{8,})?(\.[^/]*)")
_LISTED = 12


class HubFiles(NamedTuple):
    """Files of one commit of a data set, in the cache of the hub's library."""

    origin: str
    """What was asked for, with the commit that it was."""
    files: list[Path]


def find_datasets(
    paths: Sequence[Path | str], *, held_out: bool, globs: Sequence[str] = ()
) -> list[Path | HubFiles]:
    """Return the paths, and in place of each name of a data set its files, downloaded.

    Args:
        paths: Files and folders, and names such as `hf://datasets/owner/name`.
        held_out: Whether they are given as held-out text.
        globs: Which files of a folder, or of a whole data set, are taken; empty takes every one.

    Raises:
        DataError: If a data set cannot be found or downloaded, or it is not clear which of its
            files are meant.
        ValueError: If a path begins like a name of the hub and is none.
        OSError: If the cache cannot be written.
    """
    found: list[Path | HubFiles] = []
    for path in paths:
        name = parse_dataset(str(path))
        found.append(Path(path) if name is None else _fetched(name, globs, held_out=held_out))
    return found


def _fetched(name: HubName, globs: Sequence[str], *, held_out: bool) -> HubFiles:
    from receptance.checkpoint.hub import download  # noqa: PLC0415 - see decision 0024

    try:
        folder, files = download.fetch_files(
            name, lambda names: data_files(name, names, held_out=held_out, globs=globs)
        )
    except CheckpointError as error:
        raise DataError(str(error)) from error
    origin = str(replace(name, revision=folder.name))
    return HubFiles(origin, [folder / file for file in files])


def data_files(
    name: HubName, names: Sequence[str], *, held_out: bool, globs: Sequence[str] = ()
) -> list[str]:
    """Return the files of a data set that are meant, in sorted order.

    A file or a pattern means what it says. A folder, or the data set itself, means the tables or
    JSONL in it, or else the texts: where their names tell splits, those of one split.

    Args:
        name: Of the data set, perhaps with a file, a folder or a pattern.
        names: Of all its files.
        held_out: Which split is meant: that of training, or that of validation.
        globs: Which files of a folder are meant, as `find_files` takes them.

    Raises:
        CheckpointError: If there are none, they are of several configurations, or of some table
            only a part is there.
    """
    files = _selected(name, names, globs, held_out=held_out)
    if not files:
        suffixes = ", ".join(globs or _SUFFIXES)
        what = ("held-out text" if held_out else "text to train on") + f" ({suffixes})"
        there = [each for each in sorted(names) if _suffix(each)] or sorted(names)
        raise CheckpointError(
            f"{str(name)!r} must name {what}, but it names none; its repository holds "
            f"{_listed(there)}"
        )
    if not _is_file_or_pattern(name, names):
        parts = _parts(files, globs)
        if len(parts) > 1:
            choices = [
                each
                for part in parts[:_LISTED]
                for each in _names_of_part(name, names, part, globs, held_out=held_out)
            ]
            raise CheckpointError(_several(name, len(parts), choices))
        _check_whole(name, files)
    return files


def _is_file_or_pattern(name: HubName, names: Sequence[str]) -> bool:
    return name.file is not None and (name.file in names or bool(set("*?[") & set(name.file)))


def _selected(
    name: HubName, names: Sequence[str], globs: Sequence[str], *, held_out: bool
) -> list[str]:
    """Return the files that a name may mean, perhaps of several configurations."""
    data = sorted(each for each in names if _suffix(each))
    if name.file is not None and _is_file_or_pattern(name, names):
        if name.file in names:
            return [name.file]
        pattern = name.file.split("/")
        return [each for each in data if _is_like(each.split("/"), pattern)]
    folder = "" if name.file is None else name.file.rstrip("/") + "/"
    inside = [
        each
        for each in (sorted(names) if globs else data)
        if each.startswith(folder) and is_matched(each.removeprefix(folder), globs)
    ]
    files = _of_split(inside, folder, held_out=held_out)
    return files if globs else _without_texts_beside_records(files)


def _is_like(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a pattern means a path, part by part; `**` stands for any number of them."""
    if not pattern:
        return not path
    if pattern[0] == "**" and _is_like(path, pattern[1:]):
        return True
    rest = pattern if pattern[0] == "**" else pattern[1:]
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _is_like(path[1:], rest)


def _suffix(file: str) -> str:
    """Return how the name of a file of text ends; empty for another one."""
    return next((each for each in _SUFFIXES if file.lower().endswith(each)), "")


def _split_of(file: str) -> str | None:
    """Return the split that a word in a file's path tells, the last one; None for none."""
    words = [_SPLITS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in _SPLITS]
    return words[-1] if words else None


def _of_split(files: Sequence[str], folder: str, *, held_out: bool) -> list[str]:
    """Return the files of the split that is meant: the one that the folder is, or by its names."""
    splits = {file: _split_of(file.removeprefix(folder)) for file in files}
    is_all = not held_out or _split_of(folder) is not None
    if is_all and set(splits.values()) <= {None}:
        return list(files)
    return [file for file, split in splits.items() if split == ("valid" if held_out else "train")]


def _without_texts_beside_records(files: Sequence[str]) -> list[str]:
    """Return the files but for texts in a folder that has records: a licence, requirements."""
    parents = {
        parent for file in files if file.lower().endswith(_RECORDS) for parent in Path(file).parents
    }
    return [
        each
        for each in files
        if each.lower().endswith(_RECORDS) or Path(each).parent not in parents
    ]


def _parts(files: Sequence[str], globs: Sequence[str]) -> list[list[str]]:
    """Return the configurations: files of other folders, formats or names are often the same texts.

    By its name a file is told from its neighbours where that tells a split, and where it is a text
    that no glob asks for, which need not be one to train on.
    """
    found: dict[tuple[object, ...], list[str]] = {}
    for file in files:
        *folders, last = file.split("/")
        suffix = _suffix(file) or Path(file).suffix
        shard = _SHARD.fullmatch(last)
        stem = shard[1][:-1] if shard else last[: -len(suffix)]
        is_told = _split_of(last) is not None or (suffix not in _RECORDS and not globs)
        key = (
            tuple(each for each in folders if _split_of(each) is None),
            suffix,
            re.sub(r"\d+", "0", stem) if is_told else None,
        )
        found.setdefault(key, []).append(file)
    return list(found.values())


def _names_of_part(
    name: HubName, names: Sequence[str], files: list[str], globs: Sequence[str], *, held_out: bool
) -> list[str]:
    """Return what to give for exactly these files: their folder, a pattern, or each of them."""
    folder = PurePosixPath(
        os.path.commonpath([f"./{PurePosixPath(each).parent}" for each in files])
    )
    above = folder
    while _split_of(above.name) is not None:
        above = above.parent
    n_alike = next(
        (n for n, letters in enumerate(zip(*files, strict=False)) if len({*letters}) > 1), 0
    )
    begin = files[0][:n_alike].rstrip("0123456789")
    pattern = f"{glob.escape(begin)}*{_suffix(files[0])}"
    folders = [str(each) for each in (above, folder) if each.name]
    for each in [*folders, pattern] if len(files) > 1 else folders:
        choice = replace(name, file=each)
        meant = _selected(choice, names, globs, held_out=held_out)
        if meant == files and (each == pattern or len(_parts(meant, globs)) == 1):
            return [str(choice)]
    return [str(replace(name, file=each)) for each in files]


def _several(name: HubName, n_parts: int, choices: Sequence[str]) -> str:
    n_more = max(0, len(choices) - _LISTED) + max(0, n_parts - _LISTED)
    more = f"\n  and {n_more} more" if n_more else ""
    return (
        f"{str(name)!r} must name one configuration of the data set, but it has {n_parts}, in "
        "other folders, formats or names; name one, or several by a pattern with a *:\n  "
        + "\n  ".join(choices[:_LISTED])
        + more
    )


def _check_whole(name: HubName, files: Sequence[str]) -> None:
    """Refuse a part of a table in numbered files: in the cache there may be no more of it."""
    shards: dict[tuple[str, str, str], set[int]] = {}
    for file in files:
        match = _SHARD.fullmatch(file)
        if match is not None:
            shards.setdefault((match[1], match[3], match[4]), set()).add(int(match[2]))
    for (before, n_all, suffix), numbers in shards.items():
        if len(numbers) != int(n_all):
            raise CheckpointError(
                f"{before}…-of-{n_all}{suffix} of {str(name)!r} must be {int(n_all)} files, but "
                f"there are {len(numbers)}; to read these alone, name them by a pattern with a *"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{list(names[:_LISTED])}{more}"

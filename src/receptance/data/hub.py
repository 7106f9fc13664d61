"""Data sets of the Hugging Face hub: which files of a repository are text to train on."""

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from receptance.checkpoint.hub.names import HubName, parse_dataset
from receptance.data import jsonl, tables
from receptance.errors import CheckpointError, DataError

_SUFFIXES = (*tables.SUFFIXES, *jsonl.SUFFIXES, ".txt", ".txt.gz")
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
_SHARD = re.compile(r"(.*-)(\d+)(-of-(\d+)\b.*)")
_LISTED = 12


class HubFiles(NamedTuple):
    """Files of one commit of a data set, in the cache of the hub's library."""

    origin: str
    """What was asked for, with the commit that it was."""
    files: list[Path]


def find_datasets(paths: Sequence[Path | str], *, held_out: bool) -> list[Path | HubFiles]:
    """Return the paths, and in place of each name of a data set its files, downloaded.

    Args:
        paths: Files and folders, and names such as `hf://datasets/owner/name`.
        held_out: Whether they are given as held-out text.

    Raises:
        DataError: If a data set cannot be found or downloaded, or it is not clear which of its
            files are meant.
        ValueError: If a path begins like a name of the hub and is none.
        OSError: If the cache cannot be written.
    """
    found: list[Path | HubFiles] = []
    for path in paths:
        name = parse_dataset(str(path))
        found.append(Path(path) if name is None else _fetched(name, held_out=held_out))
    return found


def _fetched(name: HubName, *, held_out: bool) -> HubFiles:
    from receptance.checkpoint.hub import download  # noqa: PLC0415 - see decision 0024

    try:
        folder, files = download.fetch_files(
            name, lambda names: data_files(name, names, held_out=held_out)
        )
    except CheckpointError as error:
        raise DataError(str(error)) from error
    origin = str(replace(name, revision=folder.name))
    return HubFiles(origin, [folder / file for file in files])


def data_files(name: HubName, names: Sequence[str], *, held_out: bool) -> list[str]:
    """Return the files of a data set that are meant, in sorted order.

    A file or a pattern means what it says. A folder, or the data set itself, means the files of
    tables, JSONL and text in it: where their names tell splits, those of one split.

    Args:
        name: Of the data set, perhaps with a file, a folder or a pattern.
        names: Of all its files.
        held_out: Which split is meant: that of training, or that of validation.

    Raises:
        CheckpointError: If there are none, they are of several configurations, or of some table
            only a part is there.
    """
    data = sorted(each for each in names if each.lower().endswith(_SUFFIXES))
    pattern = name.file
    if pattern is not None and (pattern in data or set("*?[") & set(pattern)):
        files = [each for each in data if each == pattern or fnmatchcase(each, pattern)]
    else:
        below = "" if pattern is None else pattern.rstrip("/") + "/"
        files = _of_split([each for each in data if each.startswith(below)], held_out=held_out)
        _check_one_configuration(name, files)
    if not files:
        what = ("held-out text" if held_out else "text to train on") + f" ({', '.join(_SUFFIXES)})"
        raise CheckpointError(
            f"{str(name)!r} must name {what}, but it names none; its repository holds "
            f"{_listed(data or sorted(names))}"
        )
    _check_whole(name, files)
    return files


def _split_of(file: str) -> str | None:
    """Return the split that a word in a file's path tells, the last one; None for none."""
    words = [_SPLITS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in _SPLITS]
    return words[-1] if words else None


def _of_split(files: Sequence[str], *, held_out: bool) -> list[str]:
    splits = {file: _split_of(file) for file in files}
    if not held_out and set(splits.values()) <= {None}:
        return list(files)
    return [file for file, split in splits.items() if split == ("valid" if held_out else "train")]


def _check_one_configuration(name: HubName, files: Sequence[str]) -> None:
    """Refuse several: they are often the same texts in several sizes or languages."""
    found: dict[tuple[str, ...], str] = {}
    for file in files:
        folders = file.split("/")[:-1]
        key = tuple(each for each in folders if _split_of(each) is None)
        found.setdefault(key, "/".join(folders) or file)
    if len(found) > 1:
        choices = [str(replace(name, file=each)) for each in list(found.values())[:_LISTED]]
        more = f"\n  and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise CheckpointError(
            f"{str(name)!r} must name one configuration of the data set, but it has files in "
            f"{len(found)} folders; name one, or several by a pattern with a *:\n  "
            + "\n  ".join(choices)
            + more
        )


def _check_whole(name: HubName, files: Sequence[str]) -> None:
    """Refuse a part of a table in numbered files: in the cache there may be no more of it."""
    if name.file is not None and (name.file in files or set("*?[") & set(name.file)):
        return
    shards: dict[tuple[str, str], int] = {}
    for file in files:
        match = _SHARD.fullmatch(file)
        if match is not None:
            key = match[1], match[3]
            shards[key] = shards.get(key, 0) + 1
    for (before, after), n_files in shards.items():
        n_expected = int(re.sub(r"\D.*", "", after.removeprefix("-of-")))
        if n_files != n_expected:
            raise CheckpointError(
                f"{before}…{after} of {str(name)!r} must be {n_expected} files, but there are "
                f"{n_files}; download it where there is a network"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{list(names[:_LISTED])}{more}"

"""What to say of a path at which there is no model: what is near it, and what could be meant."""

import difflib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from receptance.checkpoint.formats.native import CONFIG_FILE, list_names
from receptance.checkpoint.hub.names import name_in_address, parse_name

_FILES = (".pth", ".bin")
_LISTED = 12
# A folder may hold a million files; whoever mistyped a path does not wait for them.
_LOOKED_AT = 1000


def nothing_at(source: str | Path) -> str:
    """Return the message for a path where nothing is, with the nearest one that exists.

    Args:
        source: The path, which is no name on the hub either.
    """
    path = Path(source)
    message = f"no checkpoint at {str(path)!r}: it does not exist"
    address = name_in_address(str(source))
    if address is not None:
        return f"{message}. To have it from the hub, give its name: {str(address)!r}"
    near = nearest(path)
    found = _deepest_folder(path)
    if found == path.parent:
        message += f". Found in {str(found)!r}: {_models_in(found)[:_LISTED]}"
    elif _is_file(path.parent):
        message += f", since {str(path.parent)!r} is a file"
    else:
        message += f", nor does {str(path.parent)!r}"
    if near is not None:
        return f"{message}. Did you mean {str(near)!r}?"
    if parse_name(str(source)) is not None:
        return f"{message}. It is no name on the hub, since {path.parts[0]!r} is here"
    if not path.is_absolute():
        message += ". A name on the hub is owner/name, owner/name@revision or owner/name/file.pth"
    return message


def nearest(path: Path) -> Path | None:
    """Return what exists and is named most like `path`, where each part may be mistyped.

    Failing that, it is what is named like the last part in a folder nearby.
    """
    start = _deepest_folder(path)
    here, *rest = [start], *path.relative_to(start).parts
    for i, part in enumerate(rest):
        is_last = i == len(rest) - 1
        entries = [each for folder in here for each in _entries(folder)]
        here = _like(part, [e for e in entries if _is_folder(e) or (is_last and _is_weights(e))])
    if here:
        return here[0]
    if path.is_absolute() and start == Path(path.anchor):
        return None  # what lies anywhere on the machine is not nearby
    folders = [start, *(each for each in _entries(start) if _is_folder(each))]
    nearby = islice((each for folder in folders for each in _entries(folder)), _LOOKED_AT)
    found = _like(path.name, [e for e in nearby if _is_weights(e) or _is_file(e / CONFIG_FILE)])
    return found[0] if found else None


def no_model_in(folder: Path) -> str:
    """Return the message for a folder that is no model, with the models in it."""
    names = list_names(folder)
    message = (
        f"a model folder must hold {CONFIG_FILE!r}, but {str(folder)!r} "
        f"{f'holds {names}' if names else 'is empty'}"
    )
    inside = [folder / name for name in _models_in(folder)]
    # A run keeps its model in a folder of that name.
    inside = [each / "model" if _is_folder(each / "model") else each for each in inside]
    models = [str(each) for each in inside if _is_file(each) or _is_file(each / CONFIG_FILE)]
    if len(models) == 1:
        return f"{message}; did you mean {models[0]!r}?"
    if models:
        return f"{message}; name one of {models[:_LISTED]}"
    if _is_file(folder / "config.toml"):
        return f"{message}; it is a run, and its model is there when it has ended"
    return message


def not_a_model(path: Path) -> str:
    """Return the message for a file that is none of a model's, with the folder that may be one."""
    message = (
        "a checkpoint must be a model folder, a Hugging Face folder, an authors' .pth file or an "
        f"rwkv.cpp .bin file, got the file {str(path)!r}"
    )
    if _is_file(path.parent / CONFIG_FILE):
        return f"{message}; did you mean its folder, {str(path.parent)!r}?"
    return message


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and not hidden; nothing of one that may not be read."""
    try:
        for n, entry in enumerate(folder.iterdir()):
            if n == _LOOKED_AT:
                return
            if not entry.name.startswith("."):
                yield entry
    except OSError:
        return


def _models_in(folder: Path) -> list[str]:
    """Return the names of what may be models in a folder."""
    return sorted(each.name for each in _entries(folder) if _is_folder(each) or _is_weights(each))


def _is_folder(path: Path) -> bool:
    """Return whether a folder is seen at a path; what lies in a closed one is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    """Return whether a file is seen at a path."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_weights(path: Path) -> bool:
    return path.suffix.lower() in _FILES


def _deepest_folder(path: Path) -> Path:
    """Return the deepest folder of a path that exists."""
    return next((each for each in path.parents if _is_folder(each)), Path())


def _like(name: str, entries: list[Path]) -> list[Path]:
    """Return the entries that are named like `name`, with or without an ending, nearest first."""
    by_name: dict[str, list[Path]] = {}
    for entry in sorted(entries):
        for key in dict.fromkeys((entry.name.lower(), entry.stem.lower())):
            by_name.setdefault(key, []).append(entry)
    typed = dict.fromkeys((name.lower(), Path(name).stem.lower()))
    near = [key for each in typed for key in difflib.get_close_matches(each, by_name)]
    return list(dict.fromkeys(entry for key in near for entry in by_name[key]))

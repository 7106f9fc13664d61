"""The checkpoints that a run has, and which of them it goes on from."""

import logging
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from receptance.atomic import atomic_file, fsync, staging_name
from receptance.errors import CheckpointError
from receptance.training.checkpoints.manifest import DamagedError, read_manifest, verify
from receptance.training.checkpoints.retention import Candidate, Retention, to_remove

logger = logging.getLogger(__name__)

LATEST_FILE = "latest"
REASON_FILE = "CORRUPT.txt"

_NAME = re.compile(r"step-(\d{8,})")
_CORRUPT = re.compile(r"step-\d{8,}(-\d+)?\.corrupt")


def checkpoint_name(step: int) -> str:
    """Return the name of the checkpoint after so many steps."""
    return f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's `checkpoints`, oldest first, damaged ones among them."""
    found = [each for each in folder.glob("step-*") if _NAME.fullmatch(each.name)]
    return sorted(found, key=_step)


def newest_good(
    folder: Path, *, hashes: bool = True, rename: bool = True, before_step: int | None = None
) -> Path | None:
    """Return the newest checkpoint of a run that is whole; None where there has never been one.

    Args:
        folder: The run's `checkpoints`.
        hashes: Whether every file is read to compare its sha256, or only its size is compared.
        rename: Whether a damaged one is renamed to `.corrupt`, with the reason in it.
        before_step: Only those of fewer steps are looked at; None for all.

    Raises:
        CheckpointError: If there were checkpoints and none of them is whole, or one is of another
            version of this package.
        OSError: If a checkpoint cannot be read, for a reason that is not its own.
    """
    bad = [str(each) for each in sorted(folder.glob("step-*")) if _CORRUPT.fullmatch(each.name)]
    for path in _newest_first(folder):
        if before_step is not None and _step(path) >= before_step:
            continue
        try:
            verify(path, hashes=hashes)
        except DamagedError as error:
            logger.warning("%s IS DAMAGED and is not used: %s", path, error)
            bad.append(str(_set_aside(path, str(error)) if rename else path))
        else:
            return path
    if bad:
        raise CheckpointError(
            f"no checkpoint in {str(folder)!r} is whole: {', '.join(bad)} are damaged; to begin "
            "anew, choose another `name` or remove the folder"
        )
    return None


def record_latest(folder: Path, path: Path) -> None:
    """Let the file `latest` name a checkpoint.

    Raises:
        OSError: If it cannot be written; it then names the one that it named.
    """
    with atomic_file(folder / LATEST_FILE) as staged:
        staged.write_text(path.name + "\n")


def remove_old(
    folder: Path,
    retention: Retention,
    newest: int,
    is_verified: Callable[[Path], bool],
    needed_before: int | None = None,
) -> None:
    """Remove the checkpoints that `to_remove` names; what cannot be removed is told and stays.

    Each is renamed first, so that one which is half removed is taken for nothing.

    Raises:
        OSError: If the disk does not confirm the new names; what has them is removed the next time.
    """
    trash = []
    for path in to_remove(_candidates(folder), retention, newest, is_verified, needed_before):
        try:
            trash.append(path.rename(staging_name(path)))
        except OSError as error:
            logger.warning("%s need not stay, but it cannot be removed: %s", path, error)
    # Only when the disk has the new names may the old folders lose their content.
    fsync(folder)
    for each in trash:
        shutil.rmtree(each, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in the order in which a run tries them.

    A run that went back has checkpoints of later steps until it removes them. They are left out:
    they do not come from the one that `latest` names.
    """
    found = list_checkpoints(folder)
    names = {path.name for path in found}
    try:
        latest = (folder / LATEST_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        latest = ""
    if latest not in names:
        return found[::-1]
    line = {latest}
    kept = []
    for path in found:
        is_later = _step(path) > _step(Path(latest))
        if is_later and _parent(path) not in line:
            continue
        line |= {path.name} if is_later else set()
        kept.append(path)
    return kept[::-1]


def _parent(path: Path) -> str | None:
    """Return the name of the checkpoint from which one comes; None if it cannot be known."""
    try:
        return read_manifest(path).parent
    except (CheckpointError, OSError):
        return None


def _candidates(folder: Path) -> list[Candidate]:
    """Return what decides on each checkpoint; those that cannot be read are left alone."""
    candidates = []
    for path in list_checkpoints(folder):
        with suppress(CheckpointError, OSError):
            manifest = read_manifest(path)
            candidates.append(Candidate(path, _step(path), manifest.valid_bits_per_byte))
    return candidates


def _set_aside(path: Path, reason: str) -> Path:
    """Rename a damaged checkpoint, write the reason into it, and return its new name."""
    names = [f"{path.name}.corrupt", *(f"{path.name}-{n}.corrupt" for n in range(2, 1000))]
    aside = next(each for name in names if not (each := path.with_name(name)).exists())
    # Where nothing can be renamed, it is passed over again the next time.
    try:
        path.rename(aside)
    except OSError:
        return path
    with suppress(OSError):
        (aside / REASON_FILE).write_text(reason + "\n")
    return aside


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None  # only checkpoints are asked
    return int(match[1])

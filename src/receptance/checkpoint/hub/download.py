"""Files of the Hugging Face hub, downloaded once and kept in its library's own cache.

The library obeys its own variables (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT), and reads them
when it is imported. That takes as long as a short command, so import this file where a name of
the hub was given and not before.
"""

import errno
import glob
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import huggingface_hub
from huggingface_hub import constants, errors, utils

from receptance.checkpoint.formats.native import CONFIG_FILE
from receptance.checkpoint.hub.names import HubName, needed_files
from receptance.errors import CheckpointError

Choose: TypeAlias = Callable[[list[str]], list[str]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A model of the hub that lies in the library's cache."""

    path: Path
    """The folder, or the file."""

    origin: str
    """The repository and the commit that it is of."""


class _Bars(utils.tqdm):
    """Bars on a terminal, and nowhere else."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # None asks whether the error output is a terminal.
        super().__init__(*arguments, **({"disable": None} | options))


class _UnreachableError(CheckpointError):
    """The hub does not answer, or is not to be asked."""


def fetch(name: HubName, beside: Sequence[str]) -> Fetched:
    """Return the model that `name` names, after what it needs and is not there was downloaded.

    Without a network, or when the library is told to be offline, it is the copy in the cache.

    Args:
        name: The name.
        beside: The files that are wanted too where they lie beside the weights.

    Raises:
        CheckpointError: If there is no such repository, revision or file, or it may not be read, or
            holds no model or several, or cannot be downloaded and is not in the cache.
        OSError: If the cache cannot be written.
    """
    snapshot, files = fetch_files(name, lambda names: needed_files(name, names, beside))
    is_folder = name.file is None and CONFIG_FILE in files
    return Fetched(
        snapshot if is_folder else snapshot / files[-1], f"{name.repository}@{snapshot.name}"
    )


def fetch_files(name: HubName, choose: Choose) -> tuple[Path, list[str]]:
    """Return the folder of a commit in the cache, named by it, and which files of it are wanted.

    Args:
        name: Of a repository.
        choose: Returns the files that are wanted, of the names of all that there are; offline, of
            all that are in the cache.

    Raises:
        CheckpointError: If `choose` raises it, or as `fetch` does.
        OSError: If the cache cannot be written.
    """
    try:
        with _explained(name):
            hub = huggingface_hub.HfApi()
            ask = hub.dataset_info if name.is_dataset else hub.model_info
            info = ask(name.repository, revision=name.revision)
    except _UnreachableError as error:
        return _cached(name, choose, error)
    files = choose([each.rfilename for each in info.siblings or []])
    return _downloaded(name, str(info.sha), files), files


def _repository_type(name: HubName) -> str:
    return "dataset" if name.is_dataset else "model"


def _cache(name: HubName) -> Path:
    """Return the folder of a repository in the cache."""
    return Path(constants.HF_HUB_CACHE) / "--".join(
        [f"{_repository_type(name)}s", *name.repository.split("/")]
    )


def _commit(name: HubName) -> str:
    """Return the commit that a revision was when it was last asked for; itself if it never was."""
    ref = _cache(name) / "refs" / name.revision
    return ref.read_text().strip() if ref.is_file() else name.revision


def _downloaded(name: HubName, commit: str, files: Sequence[str]) -> Path:
    """Return the folder in the cache with the files of a commit, downloading those that lack."""
    snapshot = _cache(name) / "snapshots" / commit
    if _commit(name) == commit and all((snapshot / file).is_file() for file in files):
        return snapshot
    try:
        with _explained(name):
            # The library takes patterns, in which a file's name may have a special character.
            folder = huggingface_hub.snapshot_download(
                name.repository,
                revision=name.revision,
                repo_type=_repository_type(name),
                allow_patterns=[glob.escape(file) for file in files],
                tqdm_class=_Bars,
            )
    except _UnreachableError as error:
        message = f"{error}; the files that came whole are kept, so begin it again"
        raise CheckpointError(message) from error
    return Path(folder)


def _cached(
    name: HubName, choose: Choose, unreachable: _UnreachableError
) -> tuple[Path, list[str]]:
    """Return the copy in the cache and the files of it that are needed.

    Raises:
        CheckpointError: If there is none, or a part of one.
    """
    snapshot = _cache(name) / "snapshots" / _commit(name)
    if not snapshot.is_dir():
        message = (
            f"{unreachable}, and the cache {constants.HF_HUB_CACHE!r} holds no copy of it, nor is "
            "there such a path; download it elsewhere and give the path of its folder or file"
        )
        raise CheckpointError(message) from unreachable
    # A link whose file is gone is no file.
    names = [each.relative_to(snapshot) for each in snapshot.rglob("*") if each.is_file()]
    try:
        files = choose([each.as_posix() for each in names])
    except CheckpointError as error:
        message = f"{unreachable}, and of its copy in the cache, perhaps a part: {error}"
        raise CheckpointError(message) from error
    if not constants.is_offline_mode():
        logger.warning("%s; its copy in the cache is used, %s", unreachable, snapshot.name)
    return snapshot, files


@contextmanager
def _explained(name: HubName) -> Iterator[None]:
    """Turn what the library raises into one sentence that says what to do.

    Nothing of a request is repeated in it but its address and status: a token is in its headers.
    """
    where = f"{constants.ENDPOINT}/{name.address}"
    log_in = "`hf auth login` or HF_TOKEN says who you are"
    try:
        yield
    except errors.GatedRepoError as error:
        message = (
            f"{name.repository!r} must be open to you, but its owner asks for agreement first; "
            f"accept the terms at {where} ({log_in}), or give a downloaded folder"
        )
        raise CheckpointError(message) from error
    except errors.RepositoryNotFoundError as error:
        message = (
            f"there is neither a file or folder {str(name)!r} here, nor a repository "
            f"{name.repository!r} on the hub that you may read: correct the name; if it is "
            f"private, {log_in}"
        )
        raise CheckpointError(message) from error
    except errors.RevisionNotFoundError as error:
        message = (
            f"{name.repository!r} must have a branch, tag or commit {name.revision!r}, but it has "
            f"none; see {where}/commits, or leave `@{name.revision}` away"
        )
        raise CheckpointError(message) from error
    except errors.RemoteEntryNotFoundError as error:
        message = f"{name.repository!r} must hold {name.file!r}, but does not; see {where}/tree"
        raise CheckpointError(message) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        kind = CheckpointError if status in (401, 403) else _UnreachableError
        message = f"{str(name)!r} cannot be downloaded: the hub answered with status {status}"
        raise kind(message + (f"; {log_in}" if kind is CheckpointError else "")) from error
    except errors.OfflineModeIsEnabled as error:
        message = f"{str(name)!r} cannot be downloaded, since HF_HUB_OFFLINE is set"
        raise _UnreachableError(message) from error
    # The library's own name for what its network library raises.
    except (errors.HTTPError, errors.LocalEntryNotFoundError) as error:  # pyright: ignore[reportPrivateImportUsage]
        message = f"{str(name)!r} cannot be downloaded: {_cause(error)}"
        raise _UnreachableError(message) from error
    except errors.HFValidationError as error:
        message = f"{name.repository!r} must be a name that the hub allows: {error}"
        raise CheckpointError(message) from error
    except OSError as error:
        if error.errno is None:  # a file that did not arrive whole
            message = f"{str(name)!r} cannot be downloaded: {_cause(error)}"
            raise _UnreachableError(message) from error
        if error.errno == errno.ENOSPC and error.filename is None:
            error.filename = constants.HF_HUB_CACHE
        raise


def _cause(error: BaseException) -> str:
    """Return the first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__

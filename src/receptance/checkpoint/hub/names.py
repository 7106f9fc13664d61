"""What a name on the Hugging Face hub names, and which files of a repository a model needs.

owner/name                           a repository: a Hugging Face folder, or the one .pth in it
owner/name@revision                  as it was at a branch, a tag or a commit
owner/name/file.pth                  one file of it; owner/name@revision/file.pth
hf://datasets/owner/name             a data set; also @revision, and /file, /folder or /*.parquet
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from receptance.checkpoint.formats.native import CONFIG_FILE, INITIAL_STATE_FILE
from receptance.errors import CheckpointError

_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_NAME = re.compile(
    rf"(?P<repository>{_PART}/{_PART})"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[\w-]+|[^/@\s]+))?"
    r"(?:/(?P<file>.+))?",
    re.ASCII,
)
_ADDRESS = re.compile(
    # A path has lost one of the two slashes.
    rf"https?:/{{1,2}}[^/]+/(?P<repository>{_PART}/{_PART})"
    r"(?:/(?:blob|resolve|tree)/(?P<revision>[^/?]+)(?:/(?P<file>[^?]+))?)?/?(?:\?.*)?",
    re.ASCII,
)
_DATASET = re.compile(r"hf:/{1,2}datasets/(?P<name>.*?)/*")
_CHECKPOINTS = (".pth", ".bin")
_NO_REPOSITORY = (*_CHECKPOINTS, ".safetensors", ".json", ".toml", ".txt")
_DATE = re.compile(r"20\d{6}")
_LISTED = 12
_MAIN = "main"


@dataclass(frozen=True)
class HubName:
    """What a name on the hub names."""

    repository: str
    """Its owner and its own name, with a slash between them."""

    revision: str = _MAIN
    """A branch, a tag or a commit."""

    file: str | None = None
    """The path of one file in the repository; None is the model that the repository is.

    Of a data set it may also be a folder or a pattern.
    """

    is_dataset: bool = False
    """Whether the repository is one of the hub's data sets, and not one of its models."""

    @property
    def address(self) -> str:
        """Where below the hub's address the repository is."""
        return f"datasets/{self.repository}" if self.is_dataset else self.repository

    def __str__(self) -> str:
        revision = "" if self.revision == _MAIN else f"@{self.revision}"
        name = f"hf://{self.address}" if self.is_dataset else self.repository
        return f"{name}{revision}{'' if self.file is None else f'/{self.file}'}"


def parse_name(text: str) -> HubName | None:
    """Return the name that `text` has the form of; None if it can only be a path."""
    match = _NAME.fullmatch(text)
    if match is None or match["repository"].lower().endswith(_NO_REPOSITORY):
        return None
    file = match["file"]
    if file is not None:
        # A mistyped path of three parts must not be asked for on the network, so what is named in
        # a repository must be a file of weights.
        is_file = file.lower().endswith(_CHECKPOINTS)
        if not is_file or {"", ".", ".."} & set(file.split("/")):
            return None
    return HubName(match["repository"], match["revision"] or _MAIN, file)


def parse_dataset(text: str) -> HubName | None:
    """Return the data set that `text` names; None if it does not begin as such a name does.

    Raises:
        ValueError: If it begins so, and does not go on as a name.
    """
    if not re.match("hf:/", text):
        return None
    begin = _DATASET.fullmatch(text)
    match = begin and _NAME.fullmatch(begin["name"])
    if match is None:
        raise ValueError(
            "a data set of the hub must be named hf://datasets/owner/name, perhaps with @revision "
            f"and /file, /folder or a pattern after it, got {text!r}"
        )
    return HubName(match["repository"], match["revision"] or _MAIN, match["file"], is_dataset=True)


def name_in_address(text: str) -> HubName | None:
    """Return the name of what a web page of the hub shows; None if `text` is no such address."""
    match = _ADDRESS.fullmatch(unquote(text))
    if match is None:
        return None
    return HubName(match["repository"], match["revision"] or _MAIN, match["file"])


def needed_files(name: HubName, names: Sequence[str], beside: Sequence[str]) -> list[str]:
    """Return the files of a repository that its model needs, the weights last.

    Raises:
        CheckpointError: If there is no model among `names`, or more than one.
    """
    if name.file is not None and name.file not in names:
        message = f"{name.repository!r} must hold {name.file!r} at {name.revision!r}, but does not"
        raise CheckpointError(message + _choices(name, names))
    weights = _weights(names)
    if name.file is None and CONFIG_FILE in names and weights:
        small = (CONFIG_FILE, "generation_config.json", INITIAL_STATE_FILE, *beside)
        return [each for each in small if each in names] + weights
    file = name.file
    if file is None:
        files = _checkpoints(names)
        if len(files) != 1:
            message = (
                f"{name.repository!r} must hold one model, but it holds {len(files) or 'none'}"
                if files
                else f"{name.repository!r} must hold a model at {name.revision!r}, but it holds "
                f"{sorted(names)[:_LISTED]}: neither {CONFIG_FILE!r} and weights, nor a file that "
                f"ends in {' or '.join(_CHECKPOINTS)}"
            )
            raise CheckpointError(message + _choices(name, names))
        file = files[0]
    folder = file.rpartition("/")[0]
    near = [f"{folder}/{each}" if folder else each for each in beside]
    return [each for each in near if each in names] + [file]


def _weights(names: Sequence[str]) -> list[str]:
    """Return the weights of a Hugging Face folder; safetensors where it has both formats."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        whole, index = f"{stem}.{suffix}", f"{stem}.{suffix}.index.json"
        if whole in names:
            return [whole]
        if index in names:
            shard = re.compile(rf"{stem}-\d+-of-\d+\.{suffix}")
            return [index, *sorted(each for each in names if shard.fullmatch(each))]
    return []


def _checkpoints(names: Sequence[str]) -> list[str]:
    """Return the authors' files and rwkv.cpp's, the newest first: most names have a date."""
    files = [
        each
        for each in names
        if each.lower().endswith(_CHECKPOINTS) and not each.startswith("pytorch_model")
    ]
    return sorted(files, key=lambda each: (*_DATE.findall(each)[-1:], "")[0], reverse=True)


def _choices(name: HubName, names: Sequence[str]) -> str:
    """Return what a message says of the files that could have been meant, likeliest first."""
    files = _checkpoints(names)
    if not files:
        return ""
    if name.file is not None:
        near = difflib.get_close_matches(name.file, files, n=_LISTED, cutoff=0.5)
        files = [*near, *(each for each in files if each not in near)]
    listed = [str(HubName(name.repository, name.revision, each)) for each in files[:_LISTED]]
    more = f"\n  and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    return "; name one:\n  " + "\n  ".join(listed) + more

"""The checkpoints of a run: all that it needs to go on as if it had never stopped.

checkpoints/
    latest                      the name of the one that was written last, for those who look
    step-00001234/
        model/                  a model folder, which every verb opens
        optimizer.safetensors   the moments, by the parameter's name
        training.json           how far the run was, and what its loop keeps
        rank-00000/             of each rank: the states of its random number generators, and the
                                state that its sequences go on from
        MANIFEST.json           the size and the sha256 of each file; written last
"""

import json
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import AdamW

from receptance.atomic import fsync, remove_staged
from receptance.errors import CheckpointError
from receptance.tensor_file import tensor_file_parts
from receptance.training.checkpoints.background import Background
from receptance.training.checkpoints.carried_state import STATE_FILE, carried_rows, rank_folder
from receptance.training.checkpoints.commit import StagedFolder, commit, reason, together
from receptance.training.checkpoints.disk_space import check_space, check_writable
from receptance.training.checkpoints.environment import changes, environment
from receptance.training.checkpoints.history import (
    checkpoint_name,
    list_checkpoints,
    newest_good,
    record_latest,
    remove_old,
)
from receptance.training.checkpoints.manifest import MANIFEST_FILE, Manifest, read_manifest, verify
from receptance.training.checkpoints.random_states import random_states, set_random_states
from receptance.training.checkpoints.retention import Retention
from receptance.training.checkpoints.whole_tensors import Tensors, TensorStorage
from receptance.training.processes import ALONE, Ranks
from receptance.version import package_version

logger = logging.getLogger(__name__)

TRAINING_FILE = "training.json"
RANDOM_FILE = "random.json"

# A checkpoint is written while those it will replace are there, and a little room is the disk's.
SPACE_TO_BEGIN = 2.2
SPACE_TO_SAVE = 1.05


class Progress(NamedTuple):
    """How far a run is."""

    step: int
    """Steps done."""
    tokens: int
    """Tokens trained on."""
    samples: int
    """The place, in the endless order of the run, of the next sample; the same on all ranks."""
    seconds: float
    """Spent training, over all parts of the run."""


class Loaded(NamedTuple):
    """What a run goes on from, besides its weights, moments and random states."""

    progress: Progress
    carried: dict[str, Tensor] | None
    """The state that the sequences of this rank go on from, by the names of its tensors."""
    extras: dict[str, Any]
    """What the loop gave."""
    next_batch_sha256: str
    """Of the batch that comes next, as it was told; "" if it was not, or for other settings."""


class SaveReport(NamedTuple):
    """How a save went."""

    step: int
    path: Path
    seconds: float
    """From the copy to the end."""
    failure: str | None
    """Why there is no checkpoint; None if there is one."""


class _Snapshot(NamedTuple):
    """What a checkpoint will hold, as it was at one instant."""

    progress: Progress
    tensors: Tensors
    carried: dict[str, Tensor]
    texts: dict[str, bytes]
    valid_bits_per_byte: float | None
    needed_before: int | None


class Checkpoints(AbstractContextManager["Checkpoints"]):
    """Writes and finds the checkpoints of one run; made on every rank, and called by all alike.

    What goes wrong with the disk ends no run: a save that fails leaves the checkpoints that were
    there, is told in `take_reports` and as a warning, and training goes on.

    At the end of a `with` block the save under way is waited for, also after an error; only after
    an interrupt is it left undone, as whoever interrupts wants an end at once.
    """

    def __init__(
        self,
        folder: Path,
        storage: TensorStorage,
        *,
        retention: Retention | None = None,
        asynchronous: bool = False,
        config_sha256: str = "",
        ranks: Ranks = ALONE,
    ) -> None:
        """Take the settings; nothing is read or written.

        Args:
            folder: The run's `checkpoints`.
            storage: How weights and moments are written and read.
            retention: Which checkpoints stay; None is the last two.
            asynchronous: Whether a save copies all it needs, which costs its memory, and is then
                written while training goes on. Otherwise nothing is copied.
            config_sha256: Of the settings that decide the run's numbers.
            ranks: The processes of the run.
        """
        self.folder = folder
        self.storage = storage
        self.retention = retention or Retention()
        self.asynchronous = asynchronous
        self.config_sha256 = config_sha256
        self.ranks = ranks
        self._saving_ranks = ranks.for_saving()
        self._background = Background("checkpoint")
        self._reports: list[SaveReport] = []
        self._verified: set[Path] = set()
        self._parent = ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.finish()

    def prepare(self, n_bytes: int) -> None:
        """Make the folder, remove what a killed process left, and check that it can be written.

        Args:
            n_bytes: The size of a checkpoint.

        Raises:
            OSError: On every rank, if the disk cannot be written, or has less than 2.2 times
                `n_bytes` free.
        """
        together(self.ranks, lambda: self._prepare(n_bytes) if self.ranks.is_first else None)

    def save(
        self,
        model: nn.Module,
        optimizer: AdamW,
        progress: Progress,
        *,
        carried: Mapping[str, Tensor] | None = None,
        extras: Mapping[str, Any] | None = None,
        next_batch_sha256: str = "",
        valid_bits_per_byte: float | None = None,
        needed_before: int | None = None,
    ) -> None:
        """Write a checkpoint, and remove those that need not stay.

        An asynchronous save returns when it has its copy; another one waits for it first.

        Args:
            model: The model, with its master weights.
            optimizer: Its optimizer, over all of its parameters.
            progress: How far the run is.
            carried: The state that the sequences of this rank go on from, each tensor [L, B, ...];
                None if they begin anew.
            extras: What else the loop keeps, as JSON has it; the same on all ranks.
            next_batch_sha256: Of the batch that comes next.
            valid_bits_per_byte: Of held-out text, where it was measured after this very step.
            needed_before: The newest checkpoint of fewer steps than this stays; None for none.

        Raises:
            CheckpointError: If a weight is not finite.
        """
        self.finish()
        training = {
            "progress": progress._asdict(),
            "next_batch_sha256": next_batch_sha256,
            "extras": dict(extras or {}),
            "environment": environment(self.ranks.world_size),
        }
        texts = {f"{rank_folder(self.ranks.rank)}/{RANDOM_FILE}": _json(random_states())}
        if self.ranks.is_first:
            texts[TRAINING_FILE] = _json(training)
        snapshot = _Snapshot(
            progress,
            self.storage.take(model, optimizer, private=self.asynchronous),
            {name: each.detach().to("cpu", copy=True) for name, each in (carried or {}).items()},
            texts,
            valid_bits_per_byte,
            needed_before,
        )
        if self.asynchronous:
            self._background.start(lambda: self._save(snapshot))
        else:
            self._save(snapshot)

    def finish(self) -> None:
        """Wait for the save under way, if there is one."""
        self._background.wait()

    def take_reports(self) -> list[SaveReport]:
        """Return how the saves went that have ended since the last call."""
        reports, self._reports = self._reports, []
        return reports

    def newest_good(self, *, before_step: int | None = None) -> Path | None:
        """Return the newest checkpoint that is whole, every bit of it verified; None for a new run.

        One that is damaged is renamed to `.corrupt`, with the reason in it, and told as a warning.

        Args:
            before_step: Only those of fewer steps are looked at; None for all.

        Raises:
            CheckpointError: If there were checkpoints and none of them is whole, or one is of
                another version of this package.
        """
        found = together(
            self.ranks,
            lambda: str(self._newest_good(before_step) or "") if self.ranks.is_first else "",
        )[0]
        return Path(found) if found else None

    def load(self, path: Path, model: nn.Module, optimizer: AdamW) -> Loaded:
        """Set a model, its optimizer and the random number generators to what a checkpoint holds.

        A warning tells if the versions, threads or processor are others than those of the run so
        far, since it then goes on with other bits.

        Raises:
            CheckpointError: If there is no checkpoint at `path`, or it is damaged or of a model of
                another shape.
        """
        together(self.ranks, lambda: self._check(path) if self.ranks.is_first else None)
        manifest = read_manifest(path)
        self._verified.add(path)
        self._parent = path.name if path.parent == self.folder else ""
        training = json.loads((path / TRAINING_FILE).read_bytes())
        self.storage.restore(path, model, optimizer)
        changed = changes(training["environment"], environment(self.ranks.world_size))
        if changed:
            logger.warning(
                "%s goes on, but not with the same bits as without a stop: %s",
                path.name,
                "; ".join(changed),
            )
        own = path / rank_folder(self.ranks.rank) / RANDOM_FILE
        if own.exists():
            set_random_states(json.loads(own.read_bytes()))
        same = manifest.config_sha256 == self.config_sha256
        return Loaded(
            Progress(**training["progress"]),
            carried_rows(path, manifest.world_size, self.ranks),
            training["extras"],
            training["next_batch_sha256"] if same else "",
        )

    def _save(self, snapshot: _Snapshot) -> None:
        """Write a snapshot, tell how that went, and remove what need not stay."""
        started = time.perf_counter()
        progress, ranks = snapshot.progress, self._saving_ranks
        path = self.folder / checkpoint_name(progress.step)
        manifest = Manifest(
            step=progress.step,
            tokens=progress.tokens,
            world_size=ranks.world_size,
            config_sha256=self.config_sha256,
            code_version=package_version(),
            parent=self._parent,
            valid_bits_per_byte=snapshot.valid_bits_per_byte,
            files={},
        )
        failure = None
        try:
            sizes = together(ranks, lambda: snapshot.tensors.n_bytes)
            together(ranks, lambda: self._check_space(sum(sizes)) if ranks.is_first else None)
            commit(path, manifest, lambda stage: self._write(snapshot, stage), ranks)
        except OSError as error:
            failure = reason(error)
            logger.warning(
                "NO CHECKPOINT after step %d: %s; those before it are kept", progress.step, failure
            )
        else:
            self._verified.add(path)
            self._parent = path.name
            logger.info("saved %s", path)
            if ranks.is_first:
                self._settle(path, progress.step, snapshot.needed_before)
        seconds = time.perf_counter() - started
        self._reports.append(SaveReport(progress.step, path, seconds, failure))

    def _write(self, snapshot: _Snapshot, stage: StagedFolder) -> None:
        """Write the files of this rank."""
        self.storage.write(snapshot.tensors, stage)
        if snapshot.carried:
            parts = tensor_file_parts(snapshot.carried)
            stage.write(f"{rank_folder(self.ranks.rank)}/{STATE_FILE}", parts)
        for name, text in snapshot.texts.items():
            stage.write(name, [text])

    def _settle(self, path: Path, step: int, needed_before: int | None) -> None:
        """Let `latest` name a new checkpoint, and remove those that need not stay.

        Neither can undo the save, so what fails here is told and no more.
        """
        try:
            record_latest(self.folder, path)
            remove_old(self.folder, self.retention, step, self._is_verified, needed_before)
        except OSError as error:
            logger.warning("%s is saved, but older ones are not yet removed: %s", path, error)

    def _is_verified(self, path: Path) -> bool:
        """Whether a checkpoint is whole; each is read at most once for this."""
        if path not in self._verified:
            try:
                verify(path)
            except (CheckpointError, OSError):
                return False
            self._verified.add(path)
        return True

    def _prepare(self, n_bytes: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # The disk must know the names on the way, too: runs, the run, and checkpoints in it.
        for each in self.folder.parents[:3]:
            with suppress(PermissionError):  # where it may not be read, it was not made here
                fsync(each)
        remove_staged(self.folder)
        check_writable(self.folder)
        check_space(self.folder, round(SPACE_TO_BEGIN * n_bytes), "to begin")

    def _check_space(self, n_bytes: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        check_space(self.folder, round(SPACE_TO_SAVE * n_bytes), "to save")

    def _check(self, path: Path) -> None:
        if path not in self._verified:
            _check_is_checkpoint(path)

    def _newest_good(self, before_step: int | None) -> Path | None:
        path = newest_good(self.folder, before_step=before_step)
        if path is not None:
            self._verified.add(path)
        return path


def _check_is_checkpoint(path: Path) -> None:
    """Raise a CheckpointError unless there is a whole checkpoint at `path`."""
    if not (path / MANIFEST_FILE).exists() and not (path / TRAINING_FILE).exists():
        inside = [*list_checkpoints(path / "checkpoints"), *list_checkpoints(path)]
        example = "name one such as 'runs/NAME/checkpoints/step-00000100'"
        hint = f"did you mean {str(inside[-1])!r}?" if inside else example
        raise CheckpointError(f"no training checkpoint at {str(path)!r}; {hint}")
    verify(path)


def _json(entries: dict[str, Any]) -> bytes:
    return (json.dumps(entries, indent=2) + "\n").encode()

"""The folder of a run: its configuration, its checkpoints, its metrics and its finished model."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn
from torch.optim import AdamW

from receptance.atomic import atomic_file, remove_staged
from receptance.errors import CheckpointError, ConfigError
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import Tokenizer
from receptance.training.assemble import assemble, objective_of
from receptance.training.checkpoints import (
    Checkpoints,
    Loaded,
    Progress,
    Retention,
    ShardedTensors,
    TrainedTensors,
    WholeTensors,
    list_checkpoints,
    newest_good,
    seed_random_states,
)
from receptance.training.config import (
    IntervalConfig,
    RunConfig,
    config_to_toml,
    differences,
    read_config,
    rounding_differences,
)
from receptance.training.initial_weights import (
    frozen_quantization,
    load_initial_weights_,
    with_known_initial_weights,
)
from receptance.training.processes import ALONE, Ranks, init_weights

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.toml"


class Run(NamedTuple):
    """What training goes on from."""

    config: RunConfig
    """With all that was found when the run began, such as the hash of its initial weights."""
    model: RWKV4
    objective: nn.Module
    """The model with its loss, as this rank computes it."""
    optimizer: AdamW
    checkpoints: Checkpoints
    begin: Loaded
    """Where it goes on; step 0 for a new run."""


def open_run(
    config: RunConfig,
    folder: Path,
    model_config: RWKV4Config,
    *,
    tokenizer: Tokenizer | None = None,
    resume: str = "auto",
    ranks: Ranks = ALONE,
) -> Run:
    """Return a new run in `folder`, or the one that is there as its checkpoint left it.

    Checkpoints that are damaged are renamed, and the newest whole one is taken. No other process
    may use the folder meanwhile: `run_lock` sees to it. Every rank calls this alike.

    Args:
        config: The run; its folder keeps it as `config.toml`.
        folder: Made if it is not there.
        model_config: The shape of the model.
        tokenizer: What the tokens are of, to be saved with the model.
        resume: "auto" goes on from the newest checkpoint if there is one; "never" begins anew and
            refuses a folder with checkpoints; otherwise a checkpoint's path.
        ranks: The processes of the run.

    Raises:
        ConfigError: If the run that is there had other settings, the `config.toml` that is there
            is not of a run, or `resume` does not fit.
        CheckpointError: If the checkpoint at `resume` is missing or damaged, or there were
            checkpoints and all are; or the initial weights are not those of the run.
        OSError: If the disk cannot be written or is too full.
    """
    saved = _check_folder(config, folder, resume)
    if saved is not None:
        config = with_known_initial_weights(config, saved)
        for changed in rounding_differences(saved, config):
            logger.warning("goes on, but no longer bit for bit as before: %s", changed)
    # A run that trains all weights needs none of others to go on.
    frozen = frozen_quantization(config) if config.finetune.is_partial else None
    model, optimizer = assemble(config, model_config, ranks, frozen)
    if config.finetune.is_partial:
        # A run that goes on needs them too: its checkpoints hold only what is trained.
        config = load_initial_weights_(model, config, ranks, tokenizer)
    checkpoints = _checkpoints(config, folder, model_config, tokenizer, ranks)
    chosen = checkpoints.newest_good() if resume == "auto" else None
    if resume not in ("auto", "never"):
        chosen = Path(resume)
        if config.finetune.is_partial:
            _check_origin(config, chosen)
    if chosen is not None:
        begin = checkpoints.load(chosen, model, optimizer)
        logger.info("going on from %s", chosen)
    else:
        begin = Loaded(Progress(step=0, tokens=0, samples=0, seconds=0.0), None, {}, "")
        seed_random_states(config.seed)
        if not config.training.init_from:
            init_weights(model, config.seed, ranks)
        elif not config.finetune.is_partial:  # whose weights are there already
            config = load_initial_weights_(model, config, ranks, tokenizer)

    if ranks.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        remove_staged(folder)
    checkpoints.prepare(12 * sum(each.numel() for each in model.parameters() if each.requires_grad))
    if ranks.is_first:
        with atomic_file(folder / CONFIG_FILE) as staged:
            staged.write_text(config_to_toml(config), encoding="utf-8")
    objective = objective_of(model, config, ranks)
    return Run(config, model, objective, optimizer, checkpoints, begin)


def _checkpoints(
    config: RunConfig,
    folder: Path,
    model: RWKV4Config,
    tokenizer: Tokenizer | None,
    ranks: Ranks,
) -> Checkpoints:
    """Return what writes and finds the checkpoints of a run, as it says."""
    whole = ShardedTensors(WholeTensors(model, tokenizer, writes=ranks.is_first), ranks)
    trained = TrainedTensors(writes=ranks.is_first)
    return Checkpoints(
        folder / "checkpoints",
        trained if config.finetune.is_partial else whole,
        retention=Retention(
            last=config.every.keep_checkpoints,
            every=config.every.keep_every,
            best=config.every.keep_best,
        ),
        asynchronous=config.every.save_asynchronously,
        config_sha256=config_sha256(config),
        ranks=ranks,
    )


def checkpoint_to_resume(config: RunConfig, folder: Path, resume: str) -> Path | None:
    """Return the checkpoint that a run would go on from, None for none; nothing is changed.

    Of the files in a checkpoint only the sizes are compared.

    Args:
        config: The run.
        folder: Its folder.
        resume: As `open_run` takes it.

    Raises:
        ConfigError: If the run that is there had other settings, or `resume` does not fit.
        CheckpointError: If there were checkpoints and all are damaged.
    """
    _check_folder(config, folder, resume)
    if resume in ("auto", "never"):
        return newest_good(folder / "checkpoints", hashes=False, rename=False)
    return Path(resume)


def config_sha256(config: RunConfig) -> str:
    """Return the sha256 of the settings that decide a run's numbers.

    Where the run and its stores lie, and what it does every so many steps, are not among them.
    """
    data, every = config.data.without_places(), IntervalConfig()
    return hashlib.sha256(
        config_to_toml(replace(config, name="-", data=data, every=every)).encode()
    ).hexdigest()


def _check_folder(config: RunConfig, folder: Path, resume: str) -> RunConfig | None:
    """Return the settings of the run that goes on, None for a new one.

    Raises:
        ConfigError: If the run cannot begin in its folder as `resume` wants it.
    """
    checkpoints = list_checkpoints(folder / "checkpoints")
    if resume == "never" and checkpoints:
        raise ConfigError(
            f"{str(folder)!r} must be new to begin anew, but it holds checkpoints up to "
            f"{checkpoints[-1].name}; choose another `name`, or remove the folder"
        )
    if checkpoints or resume not in ("auto", "never"):
        return _check_unchanged(config, folder / CONFIG_FILE)
    _check_replaceable(folder / CONFIG_FILE)
    return None


def _check_origin(config: RunConfig, checkpoint: Path) -> None:
    """Refuse what was trained beside other weights, or otherwise: its checkpoint does not tell."""
    path = checkpoint.absolute().parents[1] / CONFIG_FILE
    saved = read_config(path) if path.is_file() else None
    expected = (config.finetune, config.training.init_sha256)
    if saved is None or (saved.finetune, saved.training.init_sha256) != expected:
        found = "is none" if saved is None else "says otherwise"
        raise CheckpointError(
            f"{str(checkpoint)!r} must be of a run with the same `[finetune]` and the same weights "
            f"at `training.init_from`, as {str(path)!r} would say, but that {found}; begin with "
            "what that run was trained beside"
        )


def _check_replaceable(path: Path) -> None:
    """Raise if the file at `path` is something else than the settings of a run."""
    if not path.exists():
        return
    try:
        read_config(path)
    except ConfigError as error:
        raise ConfigError(
            f"{str(path.parent)!r} must be new or the folder of a run, but its {path.name} is not "
            f"of a run; choose another folder, or move the file away ({error})"
        ) from error


def _check_unchanged(config: RunConfig, path: Path) -> RunConfig | None:
    """Return the settings at `path`, if there are any; raise if other numbers come of them."""
    if not path.exists():
        return None
    saved = read_config(path)
    changed = differences(saved, config)
    if changed:
        raise ConfigError(
            f"to go on, a run must have the settings it began with, in {str(path)!r}, but "
            f"{'; '.join(changed)}. Change them back, or choose another `name` for a new run"
        )
    return saved

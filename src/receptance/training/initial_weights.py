"""The weights of another model that a run begins with."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from receptance.checkpoint import Checkpoint, find_model, load_checkpoint
from receptance.errors import CheckpointError, ConfigError
from receptance.models import RWKV4, RWKV4State
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import quantization
from receptance.tokenizer import Tokenizer
from receptance.training.config import RunConfig
from receptance.training.finetuning import LoRARWKV4, StateTunedRWKV4
from receptance.training.processes import ALONE, Ranks, set_weights


def load_initial_weights_(
    model: RWKV4, config: RunConfig, ranks: Ranks = ALONE, tokenizer: Tokenizer | None = None
) -> RunConfig:
    """Set `model` to the weights at `training.init_from`, and return the run with their hash.

    Only weights are taken over: the optimizer begins anew, and the learning rate at its schedule's
    first step. Where the initial state is trained, it begins with the one beside the weights;
    an adapter begins with its own values, by the run's seed.

    Args:
        model: Of the run's shape, in float32.
        config: The run, with a `training.init_from`.
        ranks: The processes that share the model.
        tokenizer: What the run's tokens are of; None if nobody knows.

    Raises:
        CheckpointError: If nothing is there that can be loaded, it is a model of another shape or
            tokenizer, its weights are not those of `training.init_sha256`, or it starts from a
            state of its own and is to get an adapter.
        ConfigError: As `frozen_quantization`.
        StateError: If the state beside them is damaged or of another model.
    """
    path, expected = config.training.init_from, config.training.init_sha256
    checkpoint = load_checkpoint(path)
    loaded = checkpoint.model
    found_format = quantization(loaded)
    _check_frozen(config, found_format)
    if found_format is None:
        loaded.float()
    if loaded.config != model.config:
        raise CheckpointError(
            f"`training.init_from`, {path!r}, must be a model of this run's shape, {model.config}, "
            f"but it is {loaded.config}; set `model` to that"
        )
    if isinstance(model, LoRARWKV4) and checkpoint.initial_state is not None:
        raise CheckpointError(
            f"`training.init_from`, {path!r}, must have no initial state to get an adapter, which "
            f"would be of a model that starts otherwise, but it has "
            f"{checkpoint.initial_state.name!r}; train from a copy without that file"
        )
    _check_tokenizer(path, checkpoint.tokenizer, tokenizer)
    weights = loaded.state_dict()
    found = weights_sha256(weights)
    if expected and expected != found:
        raise CheckpointError(
            f"the weights at `training.init_from`, {path!r}, must have the sha256 {expected}, as "
            f"`training.init_sha256` says, but they have {found}"
        )
    if found_format is not None:
        # As they are stored: on the CPU they stay mapped to memory.
        is_mapped = ranks.device.type == "cpu"
        model.load_state_dict(weights, strict=False, assign=is_mapped)
    else:
        # What is trained beside the weights keeps its values.
        set_weights(model, {**model.state_dict(), **weights}, ranks)
    if isinstance(model, StateTunedRWKV4):
        model.initial_state.set_(_initial_state(checkpoint))
    if isinstance(model, LoRARWKV4):
        model.init_adapter(config.seed)
    return replace(config, training=replace(config.training, init_sha256=found))


def frozen_quantization(config: RunConfig) -> QuantizedFormat | None:
    """Return the format of the matrices at `training.init_from`, which a run leaves as they are.

    Returns:
        None where they are floating-point numbers, or the run begins with no other model.

    Raises:
        CheckpointError: If nothing is there that can be loaded.
        ConfigError: If they are rounded, and the run would train all weights or on several ranks.
    """
    path = config.training.init_from
    found = find_model(path).quantization if path else None
    _check_frozen(config, found)
    return found


def _check_frozen(config: RunConfig, found: QuantizedFormat | None) -> None:
    """Raise a ConfigError if a run cannot leave weights of a format as they are."""
    path = config.training.init_from
    if found is not None and not config.finetune.is_partial:
        raise ConfigError(
            f"`training.init_from`, {path!r}, must hold plain weights where all are trained, but "
            f"they are rounded to {found.bits} bits; take the model that it was made from, or "
            "`finetune.method` 'lora' or 'state', which leave them as they are"
        )
    if found is not None and config.training.parallel != "none":
        raise ConfigError(
            f"`training.parallel` must be 'none' where the weights at `training.init_from`, "
            f"{path!r}, are rounded, which several ranks cannot share yet, got "
            f"{config.training.parallel!r}"
        )


def with_known_initial_weights(config: RunConfig, saved: RunConfig) -> RunConfig:
    """Return a run that goes on with the hash that it saved when it began.

    The initial weights are then in its checkpoint, and what they came from may be gone.
    """
    known = config.training.init_sha256 or saved.training.init_sha256
    return replace(config, training=replace(config.training, init_sha256=known))


def _initial_state(checkpoint: Checkpoint) -> RWKV4State:
    """Return the state from which a model starts: the one beside its weights, or the zero state."""
    zero, path = checkpoint.model.zero_state(1), checkpoint.initial_state
    if path is None:
        return zero
    return RWKV4State.load(path, like=zero, fingerprint=checkpoint.model.fingerprint())


def _check_tokenizer(path: str, of_model: Tokenizer | None, of_run: Tokenizer | None) -> None:
    """Raise a CheckpointError if tokens of the run mean other texts to the model."""
    if of_model is None or of_run is None or of_model.sha256 == of_run.sha256:
        return
    raise CheckpointError(
        f"`training.init_from`, {path!r}, must have the tokenizer of the token store, or its ids "
        f"mean other texts, but it has another {of_model.name!r}; prepare the texts with the "
        "model's: `receptance data prepare … --tokenizer` and the file in its folder"
    )


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256, in hexadecimal, of names, shapes and float32 values, in order of names.

    Unlike a model's fingerprint it sees every bit, and weights are as large as the run's are. Of
    rounded matrices it is that of their bytes.
    """
    total = hashlib.sha256()
    for name in sorted(weights):
        dtype = torch.uint8 if weights[name].dtype == torch.uint8 else torch.float32
        weight = weights[name].detach().to("cpu", dtype).contiguous()
        total.update(f"{name} {list(weight.shape)}\n".encode())
        total.update(weight.view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()

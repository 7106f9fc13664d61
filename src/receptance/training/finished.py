"""What a run leaves when it is done: a model folder, or an adapter."""

from pathlib import Path

from receptance.checkpoint import load_checkpoint, save_model
from receptance.errors import CheckpointError
from receptance.models import RWKV4
from receptance.tokenizer import Tokenizer
from receptance.training.config import RunConfig
from receptance.training.finetuning import LoRARWKV4, StateTunedRWKV4
from receptance.training.initial_weights import weights_sha256

ADAPTER_FILE = "adapter.safetensors"


def save_finished(
    model: RWKV4, config: RunConfig, tokenizer: Tokenizer | None, folder: Path
) -> None:
    """Write what a run has trained, whole or not at all; what is there is replaced.

    Of a run that trains the initial state the weights are those at `training.init_from`, in the
    dtypes that they are stored in, bit for bit; the state is beside them, where `load` finds it.
    Of one that trains an adapter only that is written, as `ADAPTER_FILE` beside `folder`.

    Args:
        model: The model of the run, in one piece.
        config: The run.
        tokenizer: What its tokens are of.
        folder: The destination, a model folder.

    Raises:
        CheckpointError: If a number is not finite, or the frozen weights are no longer those that
            the run began with.
        OSError: If it cannot be written.
    """
    if not isinstance(model, LoRARWKV4 | StateTunedRWKV4):
        save_model(model, tokenizer, folder, replace=True)
        return
    path, expected = config.training.init_from, config.training.init_sha256
    base = load_checkpoint(path).model
    if weights_sha256(base.state_dict()) != expected:
        raise CheckpointError(
            f"the weights at `training.init_from`, {path!r}, must be those that the run began "
            f"with, of the sha256 {expected}, but they were changed since; put them back, and "
            "train the last steps again"
        )
    if isinstance(model, LoRARWKV4):
        model.adapter(base.fingerprint()).save(folder.with_name(ADAPTER_FILE))
        return
    state = model.start_state(1).detach().to("cpu")
    save_model(base, tokenizer, folder, replace=True, initial_state=state)

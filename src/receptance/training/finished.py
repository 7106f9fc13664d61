"""What a run leaves when it is done: a model folder."""

from pathlib import Path

from receptance.checkpoint import load_checkpoint, save_model
from receptance.models import RWKV4
from receptance.tokenizer import Tokenizer
from receptance.training.config import RunConfig
from receptance.training.finetuning import StateTunedRWKV4


def save_finished(
    model: RWKV4, config: RunConfig, tokenizer: Tokenizer | None, folder: Path
) -> None:
    """Write the model that a run has trained, whole or not at all; one that is there is replaced.

    Of a run that trains the initial state the weights are those at `training.init_from`, in the
    dtypes that they are stored in, bit for bit; the state is beside them, where `load` finds it.

    Args:
        model: The model of the run, in one piece.
        config: The run.
        tokenizer: What its tokens are of.
        folder: The destination, a model folder.

    Raises:
        CheckpointError: If a number is not finite, or the frozen weights are no longer there.
        OSError: If it cannot be written.
    """
    if not isinstance(model, StateTunedRWKV4):
        save_model(model, tokenizer, folder, replace=True)
        return
    base = load_checkpoint(config.training.init_from).model
    state = model.start_state(1).detach().to("cpu")
    save_model(base, tokenizer, folder, replace=True, initial_state=state)

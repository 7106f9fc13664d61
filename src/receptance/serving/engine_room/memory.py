"""What a server will take of memory and disk, and whether it is there: asked before it starts."""

from receptance.errors import ConfigError
from receptance.inference import LanguageModel, PrefixFolder
from receptance.ops.memory import available_bytes
from receptance.serving.settings import Settings

_KB, _MB = 2**10, 2**20


def require_memory(lm: LanguageModel, settings: Settings) -> None:
    """Refuse to start what would not fit.

    A state has the same size however long its text is, so the most that a server takes is known:
    one for each text that is written at once, one more for each text that is handed out, and those
    that are kept.

    Args:
        lm: The model, whose weights are there already.
        settings: How many texts there are at once, and how many states are kept.

    Raises:
        ConfigError: If there is less memory than that.
    """
    device = lm.model.emb.weight.device
    wanted, state = wanted_bytes(lm, settings), state_bytes(lm)
    there = available_bytes(device)
    if there is not None and wanted > there:
        raise ConfigError(
            f"a server with these settings must have {_size(wanted)} of memory beside the weights, "
            f"but {_size(there)} are available; lower `max_sequences` ({settings.max_sequences}, "
            f"each takes 2 states of {_size(state)}), `state_cache_bytes` "
            f"({_size(settings.state_cache_bytes)}) or `states_bytes` "
            f"({_size(settings.states_bytes)})"
        )


def open_folder(lm: LanguageModel, settings: Settings) -> PrefixFolder | None:
    """Return where remembered states go that have no place in memory; None forgets them.

    Args:
        lm: Whose states they are.
        settings: The folder, and how much it may take.

    Raises:
        ConfigError: If it cannot be written in.
    """
    folder, most = settings.state_cache_folder, settings.state_cache_folder_bytes
    if folder is None:
        return None
    try:
        return PrefixFolder(folder, most, like=lm.zero_state(), fingerprint=lm.fingerprint)
    except OSError as error:
        raise ConfigError(_NO_FOLDER.format(str(folder), error.strerror)) from error


def wanted_bytes(lm: LanguageModel, settings: Settings) -> int:
    """Return the most memory that the states of a server take."""
    are_in_memory = settings.max_states_per_key and settings.state_folder is None
    kept = settings.states_bytes if are_in_memory else 0
    return 2 * settings.max_sequences * state_bytes(lm) + settings.state_cache_bytes + kept


def state_bytes(lm: LanguageModel) -> int:
    """Return how much memory the state of one text takes."""
    return sum(tensor.nbytes for tensor in lm.zero_state().tensors.values())


def _size(n_bytes: int) -> str:
    unit, name = (_MB, "MB") if n_bytes >= _MB else (_KB, "KB")
    return f"{n_bytes / unit:,.1f} {name}"


_NO_FOLDER = "`state_cache_folder` must be a folder to write in, but {!r} is not: {}"

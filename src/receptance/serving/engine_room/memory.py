"""What a server will take of the memory, and whether it is there: asked before it starts."""

from pathlib import Path

import torch

from receptance.errors import ConfigError
from receptance.inference import LanguageModel
from receptance.serving.settings import Settings

_MB = 2**20
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


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
            f"a server with these settings must have {_mb(wanted)} of memory beside the weights, "
            f"but {_mb(there)} are available; lower `max_sequences` ({settings.max_sequences}, "
            f"each takes 2 states of {_mb(state)}), `state_cache_bytes` "
            f"({_mb(settings.state_cache_bytes)}) or `states_bytes` ({_mb(settings.states_bytes)})"
        )


def wanted_bytes(lm: LanguageModel, settings: Settings) -> int:
    """Return the most memory that the states of a server take."""
    are_in_memory = settings.max_states_per_key and settings.state_folder is None
    kept = settings.states_bytes if are_in_memory else 0
    return 2 * settings.max_sequences * state_bytes(lm) + settings.state_cache_bytes + kept


def state_bytes(lm: LanguageModel) -> int:
    """Return how much memory the state of one text takes."""
    return sum(tensor.nbytes for tensor in lm.zero_state().tensors.values())


def available_bytes(device: torch.device) -> int | None:
    """Return how much memory can still be taken on a device; None if nobody says.

    A container's limit counts as the machine's end.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [each for each in (_of_machine(), _of_container()) if each is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return None
    numbers = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes = numbers.get("MemAvailable", "").split()
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _of_container() -> int | None:
    """Return what control groups leave: each one's limit, less what can not be given back."""
    try:
        own = _OWN_CGROUP.read_text().strip().rpartition("::/")[2]
    except OSError:  # not Linux
        return None
    folders = [_CGROUPS / own, *(_CGROUPS / own).parents]
    left = [_left_by(each) for each in folders if each.is_relative_to(_CGROUPS)]
    return min((each for each in left if each is not None), default=None)


def _left_by(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limits here, or not of the second version
        return None
    return None if limit == "max" else max(0, int(limit) - used + int(stat["inactive_file"]))


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / _MB:,.1f} MB"

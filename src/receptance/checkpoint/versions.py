"""Which RWKV a set of parameter names belongs to: the authors never wrote it into their files."""

import re
from collections.abc import Iterable
from pathlib import Path

from receptance.checkpoint.schema import shorten
from receptance.errors import CheckpointError

# What a parameter of each relative of RWKV-4 is called at its end, the latest version first.
# Source: BlinkDL/RWKV-LM, model.py of RWKV-v4, v4neo, v5 and v7.
_RELATIVES = {
    "att.r_k": "an RWKV-7",
    "att.time_maa_w1": "an RWKV-6",
    "att.time_maa_k": "an RWKV-6",
    "att.ln_x.weight": "an RWKV-5",
    "att.time_faaaa": "an RWKV-5",
    "tiny_q.weight": "an RWKV-4a (RWKV-4 with a tiny attention in one layer)",
    "att.qq.weight": "an RWKV-4b (RWKV-4 with a tiny attention in every layer)",
    "head_q.weight": "an RWKV-4 with the copy head of 2021",
}
_BLOCK = re.compile(r"blocks\.(0|[1-9][0-9]{0,5})\.(.+)")
_TENSORS_OF_A_BLOCK = {
    *(f"{norm}.{kind}" for norm in ("ln0", "ln1", "ln2") for kind in ("weight", "bias")),
    *(f"att.{name}" for name in ("time_decay", "time_first")),
    *(
        f"{part}.time_mix_{name}"
        for part, names in (("att", "kvr"), ("ffn", "kr"))
        for name in names
    ),
    *(f"att.{name}.weight" for name in ("key", "value", "receptance", "output")),
    *(f"ffn.{name}.weight" for name in ("key", "value", "receptance")),
}
_TENSORS_OUTSIDE = {"emb.weight", "ln_out.weight", "ln_out.bias", "head.weight"}


def check_is_rwkv4(path: Path, names: Iterable[str]) -> None:
    """Raise a CheckpointError that says what a model is, if its parameters are not an RWKV-4's.

    Args:
        path: The file that they come from, for the message.
        names: The names of the parameters, as the authors have them.
    """
    unknown = [name for name in names if not _is_of_rwkv4(name)]
    if not unknown:
        return
    found = [what for end, what in _RELATIVES.items() if any(n.endswith(end) for n in unknown)]
    what = f"{found[0]}, which is not supported yet" if found else "something else"
    raise CheckpointError(
        f"{str(path)!r} must be an RWKV-4, but it is {what}: RWKV-4 has no {shorten(unknown)}"
    )


def layer_count(names: Iterable[str]) -> int:
    """Return how many layers the names of parameters tell of: 1 + the greatest number in one."""
    return 1 + max((int(block[1]) for block in map(_BLOCK.fullmatch, names) if block), default=-1)


def layer_of(name: str) -> int | None:
    """Return the layer that a parameter belongs to, None for one outside of the layers."""
    block = _BLOCK.fullmatch(name)
    return None if block is None else int(block[1])


def _is_of_rwkv4(name: str) -> bool:
    block = _BLOCK.fullmatch(name)
    return name in _TENSORS_OUTSIDE if block is None else block[2] in _TENSORS_OF_A_BLOCK

"""Hugging Face's folders of RWKV-4, as `RwkvForCausalLM` of `transformers` saves and loads them.

config.json                  `model_type` "rwkv", the sizes, how often the stream is halved
model.safetensors            the weights, or shards of them and model.safetensors.index.json
pytorch_model.bin            the same in older folders, or shards and pytorch_model.bin.index.json
tokenizer.json, tokenizer_config.json        a BPE tokenizer, and how `transformers` uses it

Numbers and shapes are the authors'; only names differ. With `rescale_every`, `transformers` divides
weights and halves the stream every so many layers, so that float16 does not overflow, but in memory
alone and while it evaluates: what is stored is as it was trained. (A model that was saved after it
had evaluated is stored divided, and `transformers` itself divides it once more; nothing in the
folder tells.)

Source: models/rwkv and modeling_utils.py of huggingface/transformers 5.23.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from receptance.checkpoint.files.json_file import read_json, write_json
from receptance.checkpoint.formats.huggingface_shards import (
    WeightFiles,
    find_weights,
    open_weights,
    write_weights,
)
from receptance.checkpoint.formats.native import CONFIG_FILE
from receptance.checkpoint.schema import check_has_ln0
from receptance.checkpoint.stored import StoredModel, main_dtype
from receptance.checkpoint.versions import check_is_rwkv4
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config
from receptance.tensor_file import Entry
from receptance.tokenizer import Tokenizer

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

MODEL_TYPE = "rwkv"
_LATER_TYPE = re.compile(r"rwkv[-_]?v?([5-9])", re.IGNORECASE)  # "rwkv6", "rwkv6qwen2"

# The parts of a name that differ, theirs and the authors'.
_PARTS = {
    "embeddings": "emb",
    "pre_ln": "ln0",
    "attention": "att",
    "feed_forward": "ffn",
    "time_mix_key": "time_mix_k",
    "time_mix_value": "time_mix_v",
    "time_mix_receptance": "time_mix_r",
}
_THEIR_PARTS = {ours: theirs for theirs, ours in _PARTS.items()}
_PREFIX = "rwkv."
_EMBEDDING, _HEAD = "emb.weight", "head.weight"

SETTINGS = {"rescale_every": 6, "context_length": 1024}
"""How `transformers` runs a model, with what it takes where an entry is absent."""

_EPSILON = 1e-5  # of every LayerNorm of RWKV-4

# Without this file `transformers` takes GPT-NeoX's class for any `model_type` "rwkv". Of a
# tokenizer.json that class keeps the merges alone: other splits than GPT-NeoX's are lost, and a
# "<|padding|>" is added that the model does not know. And where there is no tokenizer.json it makes
# a vocabulary of two tokens, in which every text is empty; a class that it lacks it refuses.
_TOKENIZER_CLASSES = {
    "bpe": "PreTrainedTokenizerFast",
    "world": "RWKVWorldTokenizer",
    "bytes": "BytesTokenizer",
}
_END_OF_TEXT = "<|endoftext|>"  # token 0 of every BPE


def read_folder(folder: Path) -> StoredModel:
    """Return what a Hugging Face folder holds; the weights are memory-mapped and not yet checked.

    The names of a bare `RwkvModel`, without "rwkv.", are read as well, where the head is tied.

    Raises:
        CheckpointError: If a file is missing or damaged, or the model is not an RWKV-4 of the
            authors' proportions.
        OSError: If a file cannot be read.
    """
    path = folder / CONFIG_FILE
    entries = read_json(path)
    _check_model_type(path, entries)
    config = _sizes(path, entries)
    details = {key: _integer(path, entries, key, default) for key, default in SETTINGS.items()}
    is_tied = entries.get("tie_word_embeddings") or False
    if not isinstance(is_tied, bool):
        raise CheckpointError(
            f"`tie_word_embeddings` in {str(path)!r} must be true or false, but it is "
            f"{is_tied!r:.60}"
        )
    files = find_weights(folder)
    describe = partial(_describe, files, is_tied)
    describe(read_only=True)
    return StoredModel(
        *("huggingface", folder, files.path, config, None),
        *(partial(describe, read_only=False), partial(describe, read_only=True)),
        details,
    )


def write_folder(
    folder: Path,
    config: RWKV4Config,
    tensors: Mapping[str, Entry],
    tokenizer: Tokenizer | None,
    *,
    rescale_every: int = SETTINGS["rescale_every"],
    context_length: int = SETTINGS["context_length"],
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write the files of a folder that `transformers` loads; one tensor at a time is in memory.

    Args:
        folder: An existing folder.
        config: The sizes of the model.
        tensors: Its parameters by the authors' names, in the dtypes in which they are written. The
            config says the dtype of most of them, which `transformers` then gives to all.
        tokenizer: Its tokenizer, whose file is written too; None if there is none.
        rescale_every: After how many layers `transformers` halves the stream; 0 is never.
        context_length: How many tokens its CUDA kernel takes at once. RWKV itself has no such
            limit, and the default is that of `transformers`.
        max_shard_bytes: What one file of weights holds at most; see `write_weights`.

    Raises:
        CheckpointError: If the model has no ln0, or a tensor cannot be read or is not finite.
        OSError: If a file cannot be written.
    """
    check_has_ln0(folder, config)
    entries = {
        "architectures": ["RwkvForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "attention_hidden_size": config.n_embd,
        "intermediate_size": 4 * config.n_embd,
        "num_hidden_layers": config.n_layer,
        "layer_norm_epsilon": _EPSILON,
        "tie_word_embeddings": False,
        "rescale_every": rescale_every,
        "context_length": context_length,
        "dtype": str(main_dtype(tensors)).removeprefix("torch."),
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    write_json(folder / CONFIG_FILE, entries)
    write_weights(
        folder, {their_name(name): entry for name, entry in tensors.items()}, max_shard_bytes
    )
    if tokenizer is not None:
        tokenizer.save(folder)
        write_json(folder / TOKENIZER_CONFIG_FILE, _tokenizer_config(tokenizer))


def our_name(name: str) -> str:
    """Return the authors' name of a parameter of `transformers`, or `name` if it is none."""
    parts = name.removeprefix(_PREFIX).split(".")
    ours = ".".join(_PARTS.get(part, part) for part in parts)
    theirs = their_name(ours)
    return ours if name in (theirs, theirs.removeprefix(_PREFIX)) else name


def their_name(name: str) -> str:
    """Return what `transformers` calls a parameter that has the authors' name."""
    if name == _HEAD:
        return name
    return _PREFIX + ".".join(_THEIR_PARTS.get(part, part) for part in name.split("."))


def _check_model_type(path: Path, entries: Mapping[str, Any]) -> None:
    """Raise a CheckpointError unless the config is that of an RWKV-4 with plain weights."""
    model_type = entries.get("model_type")
    if isinstance(model_type, str) and (later := _LATER_TYPE.match(model_type)):
        raise CheckpointError(
            f"{str(path)!r} must be that of an RWKV-4, but its `model_type` {model_type!r:.60} is "
            f"that of an RWKV-{later[1]}, which this version does not support yet"
        )
    if model_type != MODEL_TYPE:
        raise CheckpointError(
            f"`model_type` in {str(path)!r} must be {MODEL_TYPE!r}, but it is {model_type!r:.60}"
        )
    if entries.get("quantization_config") is not None:
        raise CheckpointError(
            f"{str(path)!r} must be that of plain weights, but it has a `quantization_config`; "
            "take the model that it was made from, and round it here"
        )


def _sizes(path: Path, entries: Mapping[str, Any]) -> RWKV4Config:
    """Return the sizes in a config of which all else is as RWKV-4 has it."""
    vocab_size, n_embd, n_layer = (
        _integer(path, entries, key, None, least=1)
        for key in ("vocab_size", "hidden_size", "num_hidden_layers")
    )
    only = {
        "attention_hidden_size": n_embd,
        "intermediate_size": 4 * n_embd,
        "layer_norm_epsilon": _EPSILON,
    }
    for key, value in only.items():
        if entries.get(key) is not None and entries[key] != value:
            raise CheckpointError(
                f"`{key}` in {str(path)!r} must be {value}, as in every RWKV-4 of `hidden_size` "
                f"{n_embd}, but it is {entries[key]!r:.60}"
            )
    return RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size)


def _integer(
    path: Path,
    entries: Mapping[str, Any],
    key: str,
    default: int | None,
    *,
    least: int | None = None,
) -> int:
    """Return an integer of a config, or the default where it is absent."""
    value = entries.get(key, default)
    if type(value) is not int or (least is not None and value < least):
        kind = "an integer" if least is None else f"an integer of at least {least}"
        raise CheckpointError(f"`{key}` in {str(path)!r} must be {kind}, but it is {value!r:.60}")
    return value


def _describe(files: WeightFiles, is_tied: bool, *, read_only: bool) -> dict[str, Entry]:
    """Return the tensors of a folder by the authors' names."""
    entries = _renamed(files, read_only=read_only)
    check_is_rwkv4(files.path, entries)
    if _HEAD in entries or _EMBEDDING not in entries:
        return entries
    if not is_tied:
        raise CheckpointError(
            f"{str(files.path)!r} must hold {_HEAD!r}, but it does not: a bare `RwkvModel` "
            "predicts no tokens; save the whole `RwkvForCausalLM`"
        )
    # From an opening of its own: to train one of the two must not change the other.
    return {**entries, _HEAD: _renamed(files, read_only=read_only)[_EMBEDDING]}


def _renamed(files: WeightFiles, *, read_only: bool) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for theirs, entry in open_weights(files, read_only=read_only).items():
        name = our_name(theirs)
        if name in entries:
            raise CheckpointError(
                f"{str(files.path)!r} must hold each tensor once, but it holds {theirs!r} with and "
                f"without {_PREFIX!r}"
            )
        entries[name] = entry
    return entries


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what `transformers` must know so that it encodes as the tokenizer does, or refuses."""
    entries: dict[str, Any] = {"tokenizer_class": _TOKENIZER_CLASSES[tokenizer.name]}
    if tokenizer.name == "bpe":
        entries |= dict.fromkeys(("bos_token", "eos_token"), _END_OF_TEXT)
        entries["clean_up_tokenization_spaces"] = False  # it would eat spaces before punctuation
    return entries

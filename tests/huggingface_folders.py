"""Folders of Hugging Face's `transformers`, as we write them and as it saves them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from receptance.checkpoint.formats.huggingface import write_folder
from receptance.models import RWKV4
from receptance.tensor_file import Entry
from receptance.tokenizer import Tokenizer
from tests.oracles import transformers_model

SMALL_SHARD = 60_000  # bytes: a few matrices of 64 channels


def with_large_stream(model: RWKV4) -> RWKV4:
    """Return the model with all that enters the stream 32 times as large, as training makes it.

    Halving the stream is not exact: each LayerNorm adds its 1e-5 to a variance that is then a
    quarter. Of a stream of order 1, halved three times, that moves logits by 1e-3.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".ln0." in name or name.endswith(("att.output.weight", "ffn.value.weight")):
                parameter.mul_(32)
    return model


def written(model: RWKV4, folder: Path, tokenizer: Tokenizer | None = None, **options: Any) -> Path:
    folder.mkdir()
    entries = {name: Entry.of(weight) for name, weight in model.state_dict().items()}
    write_folder(folder, model.config, entries, tokenizer, **options)
    return folder


def saved_by_transformers(
    model: RWKV4, folder: Path, *, dtype: torch.dtype = torch.float32, layout: str = "one"
) -> Path:
    theirs = transformers_model(model.state_dict(), model.config).to(dtype)
    theirs.config.rescale_every = 2
    theirs.save_pretrained(folder, max_shard_size=SMALL_SHARD if "sharded" in layout else "5GB")
    if "bin" in layout:
        made_bin(folder)
    return folder


def made_bin(folder: Path) -> None:
    """Turn the safetensors of a folder into what older versions of `transformers` wrote."""
    for path in folder.glob("*.safetensors"):
        name = path.with_suffix(".bin").name.replace("model", "pytorch_model")
        torch.save(load_file(path), folder / name)
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        text = index.read_text().replace(".safetensors", ".bin").replace("model-", "pytorch_model-")
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()

"""RWKV-4 by programs that are not ours, behind one call: `logits, state = oracle(tokens, state)`.

An oracle takes and gives what its own program does; this file only carries weights and tokens over.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from receptance.models import RWKV4, RWKV4Config
from tests.closed_sums import wkv_sums

# Our names, which are the authors', and those of `transformers`.
TRANSFORMERS_NAMES = {
    "emb.": "embeddings.",
    ".ln0.": ".pre_ln.",
    ".att.": ".attention.",
    ".ffn.": ".feed_forward.",
    ".time_mix_k": ".time_mix_key",
    ".time_mix_v": ".time_mix_value",
    ".time_mix_r": ".time_mix_receptance",
}


def transformers_name(name: str) -> str:
    """Return what `transformers` calls one of our parameters."""
    for ours, theirs in TRANSFORMERS_NAMES.items():
        name = name.replace(ours, theirs)
    return name if name.startswith("head.") else f"rwkv.{name}"


def transformers_model(weights: Mapping[str, Tensor], config: RWKV4Config) -> Any:
    """Return the `transformers` model with copies of these weights, in evaluation mode."""
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    their_config = transformers.RwkvConfig(
        vocab_size=config.vocab_size,
        context_length=1024,
        hidden_size=config.n_embd,
        num_hidden_layers=config.n_layer,
        rescale_every=0,  # a trick for float16: halves the stream every few layers
        tie_word_embeddings=False,
    )
    with torch.device("meta"):  # their initialisation would be thrown away
        model = transformers.RwkvForCausalLM(their_config)
    theirs = {transformers_name(name): each.detach().clone() for name, each in weights.items()}
    model.load_state_dict(theirs, assign=True)
    return model.eval()


class TransformersOracle:
    """`RwkvForCausalLM` on its CPU path; tokens [1, T], logits [T, V]."""

    def __init__(self, model: RWKV4) -> None:
        self.model = transformers_model(model.state_dict(), model.config)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output = self.model(tokens, state=state, use_cache=True)
        return output.logits[0], output.state


class AuthorsOracle:
    """The authors' own `rwkv` package in float32; tokens [1, T], logits [T, V].

    It runs a model, or a .pth file as that stands.
    """

    def __init__(self, source: RWKV4 | Path) -> None:
        package = _import_rwkv()
        with tempfile.TemporaryDirectory() as folder:  # a full model is too large to leave behind
            stem = str(source) if isinstance(source, Path) else str(Path(folder, "weights"))
            if not isinstance(source, Path):
                torch.save(source.state_dict(), f"{stem}.pth")
            self.model = package.RWKV(stem, strategy="cpu fp32", verbose=False)
        assert self.model.version == 4

    @torch.no_grad()
    def __call__(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        logits, state = self.model.forward(tokens[0].tolist(), state, full_output=True)
        return logits.reshape(tokens.shape[1], -1), state


def convert_with_rwkv(model: RWKV4, path: Path, strategy: str) -> Path:
    """Write the model as the `rwkv` package's `convert_model` does for a strategy."""
    package = _import_rwkv()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder, "weights.pth"))
        stem, to = str(Path(folder, "weights")), str(path)
        with contextlib.suppress(SystemExit):
            package.RWKV(stem, strategy=strategy, verbose=False, convert_and_save_and_exit=to)
    return path


def _import_rwkv() -> ModuleType:
    """Import `rwkv.model`, which reads its switches from the environment as it is imported."""
    if "rwkv.model" not in sys.modules:
        os.environ |= {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
        os.environ.pop("RWKV_V7_ON", None)
    return pytest.importorskip("rwkv.model", reason="needs the authors' rwkv package")


def plain_logits(weights: Mapping[str, Tensor], n_layer: int, tokens: list[int]) -> np.ndarray:
    """Return the logits [T, V] of one sequence by the paper's equations, in float64 and NumPy.

    Token by token from the text of the paper's sections 3.1 to 3.5, with WKV as a sum over all
    earlier tokens: no recurrence, no state, no batch.
    """
    w = {name: each.detach().double().numpy() for name, each in weights.items()}
    x = _layer_norm(w["emb.weight"][tokens], w, "blocks.0.ln0")
    for layer in range(n_layer):
        x = x + _time_mix(_layer_norm(x, w, f"blocks.{layer}.ln1"), w, f"blocks.{layer}.att")
        x = x + _channel_mix(_layer_norm(x, w, f"blocks.{layer}.ln2"), w, f"blocks.{layer}.ffn")
    return _layer_norm(x, w, "ln_out") @ w["head.weight"].T


def _layer_norm(x: np.ndarray, w: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _projection(x: np.ndarray, w: Mapping[str, np.ndarray], room: str, mix: str, matrix: str):
    """W (mu * x_t + (1 - mu) * x_{t-1})."""
    mu = w[f"{room}.time_mix_{mix}"][0]
    before = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    return (mu * x + (1 - mu) * before) @ w[f"{room}.{matrix}.weight"].T


def _time_mix(x: np.ndarray, w: Mapping[str, np.ndarray], room: str) -> np.ndarray:
    r = _projection(x, w, room, "r", "receptance")
    k = _projection(x, w, room, "k", "key")
    v = _projection(x, w, room, "v", "value")
    wkv, _, _ = wkv_sums(-np.exp(w[f"{room}.time_decay"]), w[f"{room}.time_first"], k, v)
    return (wkv / (1 + np.exp(-r))) @ w[f"{room}.output.weight"].T


def _channel_mix(x: np.ndarray, w: Mapping[str, np.ndarray], room: str) -> np.ndarray:
    r = _projection(x, w, room, "r", "receptance")
    k = _projection(x, w, room, "k", "key")
    return np.maximum(k, 0) ** 2 @ w[f"{room}.value.weight"].T / (1 + np.exp(-r))

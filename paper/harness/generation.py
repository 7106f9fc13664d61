"""Generating with models of random weights: RWKV-4 and Transformers of `transformers`, timed alike.

The memory of a generation is measured in a process of its own:
python -m paper.harness.generation KIND L C HEADS V TOKENS
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from receptance.benchmark import peak_resident_bytes, random_model, resident_bytes
from receptance.inference import LanguageModel
from receptance.models import RWKV4Config

KINDS = {
    "rwkv": "RWKV-4",
    "neox cache": "GPT-NeoX, with a cache",
    "neox": "GPT-NeoX, without",
    "opt cache": "OPT, with a cache",
    "opt": "OPT, without",
}
# One arena, and memory of 64 KiB and more given back when it is freed: else what a process holds
# depends on which thread asked, and on what was freed before.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


class Shape(NamedTuple):
    """The sizes of a model; a Transformer of these has hidden layers of 4·C."""

    n_layer: int
    n_embd: int
    n_heads: int
    vocab_size: int


class Memory(NamedTuple):
    """What a process held, in bytes."""

    peak: int
    """The most while it generated, from before there was a model."""
    weights: int

    @property
    def beside(self) -> int:
        """What of it is not weights."""
        return self.peak - self.weights


class Generator(NamedTuple):
    """A model that generates."""

    run: Callable[[Sequence[int]], list[float]]
    """Generates greedily, from one token, as many as the last number says, and returns the seconds
    after each of these many."""
    n_parameters: int


def generator_of(kind: str, shape: Shape, longest: int) -> Generator:
    """Return a model that generates, with random float32 weights.

    Args:
        kind: One of `KINDS`.
        shape: Its sizes.
        longest: The most tokens that it will generate.
    """
    if kind == "rwkv":
        config = RWKV4Config(
            n_layer=shape.n_layer, n_embd=shape.n_embd, vocab_size=shape.vocab_size
        )
        lm = LanguageModel(random_model(config, "float32"), None)
        return Generator(_recurrent(lm), config.n_parameters)
    family, _, cached = kind.partition(" ")
    model = _random_transformer(family, shape, longest)
    n_parameters = sum(each.numel() for each in model.parameters())
    return Generator(_transformer(model, uses_cache=cached == "cache"), n_parameters)


def _random_transformer(family: str, shape: Shape, longest: int) -> Any:
    """Return a model of `transformers`, whose weights were written in place."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM
    from transformers.initialization import no_init_weights

    common: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.n_embd,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_heads,
        "max_position_embeddings": max(longest, 16),
    }
    with no_init_weights():
        if family == "neox":
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**common, intermediate_size=4 * shape.n_embd))
        else:
            model = OPTForCausalLM(
                OPTConfig(**common, ffn_dim=4 * shape.n_embd, word_embed_proj_dim=shape.n_embd)
            )
    torch.manual_seed(0)
    for each in model.parameters():
        each.requires_grad_(False)
        if each.ndim == 2:
            each.normal_(std=each.shape[1] ** -0.5)
        else:
            each.uniform_()
    return model.eval()


def _recurrent(lm: LanguageModel) -> Callable[[Sequence[int]], list[float]]:
    slots = torch.tensor([0])
    packed = lm.packed

    def generate(marks: Sequence[int]) -> list[float]:
        state, token, watch = lm.zero_state(), torch.tensor([0]), _Watch(marks)
        for done in range(1, marks[-1] + 1):
            token = packed.step(token, state, slots).argmax(-1)
            watch.note(done)
        return watch.seconds

    return generate


def _transformer(model: Any, *, uses_cache: bool) -> Callable[[Sequence[int]], list[float]]:
    def generate(marks: Sequence[int]) -> list[float]:
        tokens, cache, watch = torch.zeros(1, 1, dtype=torch.long), None, _Watch(marks)
        for done in range(1, marks[-1] + 1):
            fed = tokens[:, -1:] if uses_cache else tokens
            with torch.no_grad():
                out = model(fed, past_key_values=cache, use_cache=uses_cache, logits_to_keep=1)
            cache = out.past_key_values if uses_cache else None
            tokens = torch.cat([tokens, out.logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            watch.note(done)
        return watch.seconds

    return generate


class _Watch:
    """Seconds since it was made, after some numbers of tokens."""

    def __init__(self, marks: Sequence[int]) -> None:
        self.seconds: list[float] = []
        self._marks = set(marks)
        self._started = time.perf_counter()

    def note(self, done: int) -> None:
        if done in self._marks:
            self.seconds.append(time.perf_counter() - self._started)


def memory_of(kind: str, shape: Shape, T: int) -> Memory:
    """Return what a new process held while it generated so many tokens."""
    sizes = [str(each) for each in (*shape, T)]
    command = [sys.executable, "-m", __name__, kind, *sizes]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ALLOCATOR},
    )
    return Memory(*json.loads(done.stdout))


def _memory_here(kind: str, shape: Shape, T: int) -> Memory:
    """Measure in this process; what the making of the weights took is not counted."""
    tiny = Shape(1, 2 * shape.n_heads, shape.n_heads, 16)
    generator_of(kind, tiny, 16).run([16])  # imports, and what is made once
    gc.collect()
    before = resident_bytes()
    generator = generator_of(kind, shape, T)
    gc.collect()
    forget_peak()
    generator.run([T])
    peak = peak_resident_bytes()
    if before is None or peak is None:
        message = "memory is measured as Linux tells it, in /proc/self/status"
        raise SystemExit(message)
    return Memory(peak - before, 4 * generator.n_parameters)


def forget_peak() -> None:
    """Make what this process holds now the most that it ever held, in the eyes of Linux."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    kind, *sizes = sys.argv[1:]
    print(json.dumps(_memory_here(kind, Shape(*map(int, sizes[:4])), int(sizes[4]))))

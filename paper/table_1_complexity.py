"""Table 1: time and memory of generating, against the length of the text."""

import gc
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from receptance.benchmark import random_model
from receptance.inference import LanguageModel
from receptance.models import RWKV4Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

L, D, V = 4, 256, 4096
N_HEADS = 4
KINDS = {
    "rwkv": "RWKV-4",
    "cache": "GPT-NeoX, with a cache",
    "no cache": "GPT-NeoX, without",
}
# Of each kind, as many as can be waited for.
LENGTHS = {
    "quick": {"rwkv": (512, 1024, 2048), "cache": (128, 256, 512), "no cache": (32, 64, 128)},
    "small": {
        "rwkv": (512, 1024, 2048, 4096, 8192, 16384),
        "cache": (256, 512, 1024, 2048, 4096),
        "no cache": (64, 128, 256, 512, 1024),
    },
}
ROUNDS = {"quick": 3, "small": 5}


def generator_of(kind: str, longest: int) -> Callable[[int], object]:
    """Return what generates so many tokens, greedily, from one."""
    torch.manual_seed(0)
    if kind == "rwkv":
        model = random_model(RWKV4Config(n_layer=L, n_embd=D, vocab_size=V), "float32")
        return _recurrent(LanguageModel(model, None))
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=V,
        hidden_size=D,
        num_hidden_layers=L,
        num_attention_heads=N_HEADS,
        intermediate_size=4 * D,
        max_position_embeddings=max(longest, 16),
    )
    return _transformer(GPTNeoXForCausalLM(config).eval(), uses_cache=kind == "cache")


def _recurrent(lm: LanguageModel) -> Callable[[int], object]:
    slots = torch.tensor([0])

    def generate(T: int) -> None:
        state, token = lm.zero_state(), torch.tensor([0])
        for _ in range(T):
            token = lm.packed.step(token, state, slots).argmax(-1)

    return generate


def _transformer(model: Any, *, uses_cache: bool) -> Callable[[int], object]:
    def generate(T: int) -> None:
        tokens, cache = torch.zeros(1, 1, dtype=torch.long), None
        for _ in range(T):
            fed = tokens[:, -1:] if uses_cache else tokens
            with torch.no_grad():
                out = model(fed, past_key_values=cache, use_cache=uses_cache, logits_to_keep=1)
            cache = out.past_key_values if uses_cache else None
            tokens = torch.cat([tokens, out.logits[:, -1].argmax(-1, keepdim=True)], dim=1)

    return generate


def measure(options: Options) -> dict[str, Any]:
    """Time all kinds and lengths in turn; measure the memory of each in a process of its own."""
    lengths = LENGTHS[options.scale]
    generators = {kind: generator_of(kind, max(lengths[kind])) for kind in KINDS}
    times: dict[tuple[str, int], list[float]] = {}
    for kind, generate in generators.items():
        generate(8)
        times |= {(kind, T): [] for T in lengths[kind]}
    for _ in range(ROUNDS[options.scale]):
        for kind, T in times:
            started = time.perf_counter()
            generators[kind](T)
            times[kind, T].append(time.perf_counter() - started)
    curves = []
    for kind in KINDS:
        seconds = [statistics.median(times[kind, T]) for T in lengths[kind]]
        memory = [_memory_elsewhere(kind, T) for T in lengths[kind]]
        curves.append(
            {
                "kind": kind,
                "T": list(lengths[kind]),
                "seconds": seconds,
                "memory_bytes": memory,
                "time_exponent": exponent(lengths[kind], seconds),
                "memory_exponent": exponent(lengths[kind], memory),
            }
        )
    shape = {"n_layer": L, "n_embd": D, "vocab_size": V}
    return {"model": shape, "rounds": ROUNDS[options.scale], "curves": curves}


def exponent(T: Sequence[int], values: Sequence[float]) -> float:
    """Return p of the power law c · T^p that fits best, by least squares of logarithms."""
    x, y = [math.log(each) for each in T], [math.log(each) for each in values]
    slope, _ = statistics.linear_regression(x, y)
    return slope


def _memory_elsewhere(kind: str, T: int) -> int:
    """Return the most that a new process held while it generated, weights included."""
    command = [sys.executable, "-m", "paper.table_1_complexity", "--memory", kind, str(T)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return int(json.loads(done.stdout))


def _memory_here(kind: str, T: int) -> int:
    """Return by how much the most that this process held has grown, from before the model."""
    generator_of(kind, T)(2)  # imports, and what is made once
    gc.collect()
    before = _resident_bytes()
    generator_of(kind, T)(T)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


def section(found: dict[str, Any]) -> str:
    """Return the exponents and the ends of each curve."""
    rows = [
        (
            KINDS[curve["kind"]],
            f"{curve['T'][0]:,} to {curve['T'][-1]:,}",
            f"{curve['time_exponent']:.3f}",
            f"{curve['memory_exponent']:.3f}",
            f"{1e3 * curve['seconds'][-1] / curve['T'][-1]:.3f}",
            f"{curve['memory_bytes'][-1] / 1e6:.0f}",
        )
        for curve in found["curves"]
    ]
    head = (
        *("model", "tokens T", "time ∝ T^p, p", "memory ∝ T^p, p"),
        *("ms a token at the longest", "MB at the longest"),
    )
    model = found["model"]
    return (
        f"{markdown_table(head, rows)}\n\n"
        f"All with L{model['n_layer']}, D{model['n_embd']} and a vocabulary of "
        f"{model['vocab_size']:,}, float32, generating from one token; medians of "
        f"{found['rounds']} rounds in which all take turns. The paper's table: RWKV O(Td) time and "
        "O(d) memory, a Transformer O(T²d) and O(T² + Td)."
    )


def draw(found: dict[str, Any]) -> "Figure":
    """Draw time and memory over the length."""
    figure, axes = new_figure(2)
    for curve, colour in zip(found["curves"], COLOURS, strict=False):
        label = KINDS[curve["kind"]]
        seconds, memory = axes.flat
        seconds.plot(curve["T"], curve["seconds"], ".-", color=colour, label=label)
        megabytes = [each / 1e6 for each in curve["memory_bytes"]]
        memory.plot(curve["T"], megabytes, ".-", color=colour, label=label)
    for axis, label in zip(axes.flat, ("seconds", "memory of the process, MB"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("tokens generated, T")
        axis.set_ylabel(label)
        axis.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="table_1_complexity",
    title="Table 1: complexity of inference",
    claim="RWKV generates T tokens in O(Td) time and O(d) memory (section 3, table 1).",
    differs=(
        "The paper derives its table and counts the mixing of tokens alone; here whole small "
        "models generate, the Transformer through `transformers`, and powers of T are fitted. With "
        "so small a model what is the same for every token hides the quadratic term of the "
        "Transformer with a cache until T is large."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    if "--memory" in sys.argv:
        print(_memory_here(sys.argv[2], int(sys.argv[3])))
        raise SystemExit(0)
    raise SystemExit(main(EXPERIMENT))

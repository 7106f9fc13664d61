"""Table 1: time and memory of generating, against the length of the text."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from paper.harness.drawing import narrow_log
from paper.harness.generation import KINDS, Shape, generator_of, memory_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHAPE = Shape(n_layer=4, n_embd=256, n_heads=4, vocab_size=4096)
# Of each kind, as many as can be waited for.
LENGTHS = {
    "quick": {"rwkv": (512, 1024, 2048), "neox cache": (128, 256, 512), "neox": (32, 64, 128)},
    "small": {
        "rwkv": (512, 1024, 2048, 4096, 8192, 16384),
        "neox cache": (256, 512, 1024, 2048, 4096),
        "neox": (64, 128, 256, 512, 1024),
    },
}
ROUNDS = {"quick": 3, "small": 5}


def measure(options: Options) -> dict[str, Any]:
    """Time all kinds and lengths in turn; measure the memory of each in a process of its own."""
    lengths = LENGTHS[options.scale]
    generators = {kind: generator_of(kind, SHAPE, max(lengths[kind])) for kind in lengths}
    times: dict[tuple[str, int], list[float]] = {}
    for kind, generate in generators.items():
        generate.run([8])
        times |= {(kind, T): [] for T in lengths[kind]}
    for _ in range(ROUNDS[options.scale]):
        for kind, T in times:
            times[kind, T] += generators[kind].run([T])
    curves = []
    for kind in lengths:
        seconds = [statistics.median(times[kind, T]) for T in lengths[kind]]
        memory = [memory_of(kind, SHAPE, T).peak for T in lengths[kind]]
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
    return {"model": SHAPE._asdict(), "rounds": ROUNDS[options.scale], "curves": curves}


def exponent(T: Sequence[int], values: Sequence[float]) -> float:
    """Return p of the power law c · T^p that fits best, by least squares of logarithms."""
    x, y = [math.log(each) for each in T], [math.log(each) for each in values]
    slope, _ = statistics.linear_regression(x, y)
    return slope


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
    seconds, memory = axes.flat
    for curve, colour in zip(found["curves"], COLOURS, strict=False):
        label = KINDS[curve["kind"]]
        seconds.plot(curve["T"], curve["seconds"], ".-", color=colour, label=label)
        megabytes = [each / 1e6 for each in curve["memory_bytes"]]
        memory.plot(curve["T"], megabytes, ".-", color=colour, label=label)
    for axis, label in ((seconds, "seconds"), (memory, "memory of the process, MB")):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("tokens generated, T")
        axis.set_ylabel(label)
        axis.legend(frameon=False, fontsize=8)
    narrow_log(memory)
    return figure


EXPERIMENT = Experiment(
    name="table_1_complexity",
    title="Table 1: complexity of inference",
    claim="RWKV generates T tokens in O(Td) time and O(d) memory (section 3, table 1).",
    differs=(
        "The paper derives its table and counts the mixing of tokens alone; here whole small "
        "models generate, the Transformer through `transformers`, and powers of T are fitted, of "
        "other ranges of T for each. Memory is that of a process, the weights among it, so its "
        "power is less than that of what grows; figures 13 and 14 have it without them. With "
        "so small a model what is the same for every token hides the quadratic term of the "
        "Transformer with a cache until T is large."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))

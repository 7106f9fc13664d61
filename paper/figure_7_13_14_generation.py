"""Figures 7, 13 and 14: time and memory of generating, by length and by size."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from paper.harness.generation import KINDS, Shape, generator_of, memory_of
from paper.harness.kept import Kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Read from the paper's figure 7, on an A100: seconds after so many tokens.
PAPER_TOKENS = (128, 256, 512, 768, 1023)
PAPER_SECONDS = {
    "RWKV-4 3B": (1.2, 2.4, 4.8, 7.2, 9.6),
    "OPT-2.7B": (2.5, 6.0, 16.9, 34.2, 56.7),
    "Pythia-2.8B": (2.8, 6.7, 18.9, 37.2, 60.9),
}
# Read from figures 13 and 14, processor: GB beside the weights, and seconds, for 512 tokens.
PAPER_SIZES = (
    ("RWKV-4 169M", 0.24, 16.1),
    ("RWKV-4 430M", 0.48, 37.5),
    ("OPT-125M", 1.30, 76),
    ("OPT-350M", 3.30, 157),
    ("Pythia-160M", 1.30, 96),
    ("Pythia-410M", 3.26, 150),
)
V, HEAD = 50277, 64
SIZES = {
    "quick": ((2, 128), (2, 256)),
    "small": ((6, 256), (8, 512), (12, 768), (24, 1024)),
    "paper": ((12, 768), (24, 1024), (24, 2048), (32, 2560)),
}
# At all sizes; and at the first one as many as figure 7 shows.
TOKENS = {"quick": (32, 64), "small": (512, 1024), "paper": (512, 1024)}
ROUNDS = {"quick": 3, "small": 3, "paper": 3}
# How many sizes are timed without a cache in all rounds; the next one is in the first alone, and
# what is larger takes hours.
WITHOUT_CACHE = {"quick": 2, "small": 2, "paper": 4}
N_MARKS = 16


def measure(options: Options) -> dict[str, Any]:
    """Time all kinds and sizes in turn, and the memory of each; what was measured is kept."""
    scale = options.scale
    tokens, longest = TOKENS[scale]
    kept = Kept(options.work / "figure_7_13_14.json")
    curves: dict[tuple[str, int], list[list[float]]] = {}
    for index, kind, size in _turns(scale):
        marks = _marks(longest if size == 0 else tokens)
        key = f"seconds {kind} {_shape(scale, size)} round {index}"
        seconds = kept.get(key) or _timed(kind, _shape(scale, size), marks)
        kept.put(key, seconds)
        curves.setdefault((kind, size), []).append(seconds)
    points = []
    for (kind, size), rounds in curves.items():
        shape = _shape(scale, size)
        key = f"memory {kind} {shape} {tokens}"
        memory = kept.get(key) or list(memory_of(kind, shape, tokens))
        kept.put(key, memory)
        points.append(
            {
                "kind": kind,
                "n_layer": shape.n_layer,
                "n_embd": shape.n_embd,
                "n_parameters": memory[1] // 4,
                "tokens": _marks(longest if size == 0 else tokens),
                "seconds": [statistics.median(each) for each in zip(*rounds, strict=True)],
                "rounds": len(rounds),
                "memory_beside_bytes": memory[0] - memory[1],
            }
        )
    return {"n_tokens": tokens, "longest": longest, "vocab_size": V, "points": points}


def _turns(scale: str) -> Iterator[tuple[int, str, int]]:
    """Yield what is timed in its order: rounds in which all kinds take turns, size by size."""
    for index in range(ROUNDS[scale]):
        for size in range(len(SIZES[scale])):
            for kind in KINDS:
                is_cached = kind == "rwkv" or kind.endswith("cache")
                n_timed = WITHOUT_CACHE[scale]
                if is_cached or size < n_timed or (size == n_timed and index == 0):
                    yield index, kind, size


def _shape(scale: str, size: int) -> Shape:
    n_layer, n_embd = SIZES[scale][size]
    return Shape(n_layer, n_embd, n_embd // HEAD, V)


def _marks(longest: int) -> list[int]:
    return [longest * mark // N_MARKS for mark in range(1, N_MARKS + 1)]


def _timed(kind: str, shape: Shape, marks: list[int]) -> list[float]:
    generator = generator_of(kind, shape, marks[-1])
    generator.run([4])
    return [round(each, 5) for each in generator.run(marks)]


def bend(tokens: list[int], seconds: list[float]) -> float:
    """Return the seconds of all tokens over twice those of the first half: 1 where time is linear.

    Of time that is quadratic it is 2.
    """
    half = tokens.index(tokens[-1] // 2)
    return seconds[-1] / (2 * seconds[half])


def _at(point: dict[str, Any], n_tokens: int) -> float:
    return point["seconds"][point["tokens"].index(n_tokens)]


def carried_bytes(point: dict[str, Any], n_tokens: int) -> int:
    """Return the size of the state, 5·C·L numbers, or of the keys and values of all tokens."""
    size = 4 * point["n_layer"] * point["n_embd"]
    if point["kind"] == "rwkv":
        return 5 * size
    return 2 * n_tokens * size if point["kind"].endswith("cache") else 0


def section(found: dict[str, Any]) -> str:
    """Return time and memory of each size, and how far each curve is from a line."""
    points, n_tokens = found["points"], found["n_tokens"]
    first = [each for each in points if each["tokens"][-1] == found["longest"]]
    curves = [
        (
            KINDS[each["kind"]],
            *(f"{_at(each, found['longest'] * part // 4):.2f}" for part in (1, 2, 4)),
            f"{bend(each['tokens'], each['seconds']):.2f}",
        )
        for each in first
    ]
    curves += [
        (
            f"the paper's {name}",
            *(f"{seconds[index]:.1f}" for index in (1, 2, 4)),
            f"{seconds[4] / (2 * seconds[2]):.2f}",
        )
        for name, seconds in PAPER_SECONDS.items()
    ]
    quarters = [f"{found['longest'] * part // 4:,} tokens, s" for part in (1, 2, 4)]
    rows = [
        (
            KINDS[each["kind"]],
            f"L{each['n_layer']} D{each['n_embd']}",
            f"{each['n_parameters'] / 1e6:.0f}M",
            f"{max(each['memory_beside_bytes'], 0) / 1e6:.1f}",
            f"{carried_bytes(each, n_tokens) / 1e6:.2f}",
            f"{_at(each, n_tokens):.2f}",
            each["rounds"],
        )
        for each in points
    ]
    rows += [
        (f"the paper's {name}", "", "", f"{1e3 * gigabytes:.0f}", "", seconds, "")
        for name, gigabytes, seconds in PAPER_SIZES
    ]
    head = (
        *("model", "shape", "weights", "MB beside the weights"),
        *("of that, state or cache", "s", "rounds"),
    )
    linear = next(each for each in first if each["kind"] == "rwkv")
    return (
        f"Figure 7, here with L{linear['n_layer']} and D{linear['n_embd']}:\n\n"
        f"{markdown_table(('model', *quarters, 'bend'), curves)}\n\n"
        "The bend is the time of all tokens over twice that of the first half: 1 of a line, 2 of a "
        "parabola. The columns of the paper's rows are 256, 512 and 1,023 tokens.\n\n"
        f"Figures 13 and 14, {n_tokens:,} tokens (the paper's: 512, on a processor):\n\n"
        f"{markdown_table(head, rows)}\n\n{_verdict(found)}"
    )


def _verdict(found: dict[str, Any]) -> str:
    """Return in words what the largest size that all kinds have says."""
    by_shape: dict[tuple[int, int], dict[str, Any]] = {}
    for each in found["points"]:
        by_shape.setdefault((each["n_layer"], each["n_embd"]), {})[each["kind"]] = each
    shape = max(each for each, kinds in by_shape.items() if len(kinds) == len(KINDS))
    ours, n_tokens = by_shape[shape]["rwkv"], found["n_tokens"]
    ratios = [
        f"{KINDS[kind]}, {_at(each, n_tokens) / _at(ours, n_tokens):.1f} times the time and "
        f"{(each['memory_beside_bytes'] - ours['memory_beside_bytes']) / 1e6:+.1f} MB"
        for kind, each in by_shape[shape].items()
        if kind != "rwkv"
    ]
    return (
        f"Beside RWKV-4, of L{shape[0]} D{shape[1]}, the largest that all were timed at: "
        f"{'; '.join(ratios)}."
    )


def draw(found: dict[str, Any]) -> "Figure":
    """Draw time over tokens, and memory and time over size."""
    figure, axes = new_figure(3, width=4.4)
    time, memory, seconds = axes.flat
    for kind, colour in zip(KINDS, COLOURS, strict=False):
        points = [each for each in found["points"] if each["kind"] == kind]
        style = {"color": colour, "label": KINDS[kind], "markersize": 5}
        first = points[0]
        time.plot([0, *first["tokens"]], [0, *first["seconds"]], "-", **style)
        sizes = [each["n_parameters"] for each in points]
        # What is less than a few pages is not told from nothing.
        beside = [max(each["memory_beside_bytes"], 1e4) / 1e6 for each in points]
        memory.plot(sizes, beside, "o-", **style)
        seconds.plot(sizes, [_at(each, found["n_tokens"]) for each in points], "o-", **style)
    time.set_title(f"L{found['points'][0]['n_layer']}, D{found['points'][0]['n_embd']}")
    time.set_xlabel("tokens generated")
    time.set_ylabel("seconds")
    ours = [each["n_parameters"] for each in found["points"] if each["kind"] == "rwkv"]
    for axis, label in (
        (memory, "MB beside the weights"),
        (seconds, "seconds"),
    ):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(ours, [f"{each / 1e6:.0f}M" for each in ours])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("weights")
        axis.set_ylabel(label)
        axis.set_title(f"{found['n_tokens']:,} tokens")
    time.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="figure_7_13_14_generation",
    title="Figures 7, 13 and 14: time and memory of generating",
    claim=(
        "The time of RWKV's text grows linearly with its tokens, that of Transformers faster; RWKV "
        "takes less time and less memory beside its weights (appendix K, figures 7, 13, 14)."
    ),
    differs=(
        "Random weights in float32 on a processor, RWKV-4 through this package and GPT-NeoX and "
        "OPT, of the same layers and channels, through `transformers`. The paper does not say "
        "whether its Transformers kept a cache; their curves bend as those without one do, so both "
        "are here, and that with a cache is the one to compare with. At these lengths a cache is "
        "small beside the weights that every token reads, so the factor in time to a Transformer "
        "with one is mostly that between two implementations, and not of the architectures. Memory "
        "is the growth of a process of its own, less the weights."
    ),
    measure=measure,
    section=section,
    draw=draw,
    scales=("quick", "small", "paper"),
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))

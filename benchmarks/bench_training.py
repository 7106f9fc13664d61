"""What a training step costs, ours beside a Transformer's and beside another RWKV-4's.

    python benchmarks/bench_training.py
    python benchmarks/bench_training.py --tokens 512 2048 --rounds 9 --same-allocator

Contenders of L6 D512 V8192 train on the same batch of 4 sequences: ours, and of `transformers`
GPTNeoXForCausalLM (its default attention) and RwkvForCausalLM (at 512 tokens only: its backward on
the CPU is quadratic). Each is a process of its own, so that its peak memory is its own and it has
the allocator that its user would have; with --same-allocator all have the setting that `receptance
train` makes. They take turns, a step each, while the others wait.

Beside the time of our step stand, of the same run, that of its matrix products alone, and of one
more step, profiled, the shares of matrix products and WKV. The cost of a token is set beside that
at the first length, whose steps are taken in between.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

CONTENDERS = Path(__file__).with_name("training_contenders.py")
BATCH_SIZE = 4
ALL = ("ours", "GPTNeoXForCausalLM", "RwkvForCausalLM")
RWKV_MAX_TOKENS = 512
# The products of a token, forward and backward: 6 (VD + 13 D² L).
FLOPS_A_TOKEN = 6 * (8192 * 512 + 13 * 512**2 * 6)


class Contender:
    """A contender at work in its own process."""

    def __init__(self, name: str, n_tokens: int, *, keeps_memory: bool) -> None:
        self.name, self.n_tokens = name, n_tokens
        command = [sys.executable, CONTENDERS, name, str(n_tokens)]
        self.process = subprocess.Popen(
            [*command, "--keep-memory"] if keeps_memory else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.steps: list[float] = []

    def ask(self, command: str) -> Any:
        """Return the answer to a command; the others wait meanwhile."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            message = f"{self.name} at {self.n_tokens} tokens ended with {self.process.wait()}"
            raise RuntimeError(message)
        return json.loads(answer)

    def step(self) -> None:
        """Take a step and note its time."""
        self.steps.append(self.ask("step"))

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    @property
    def s_a_token(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.steps) / (BATCH_SIZE * self.n_tokens)

    @property
    def spread(self) -> float:
        """The longest step less the shortest, over the median."""
        return (max(self.steps) - min(self.steps)) / statistics.median(self.steps)


def main(argv: list[str] | None = None) -> int:
    """Measure at each length, print as it goes on, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="What a training step costs, beside others.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--rounds", type=int, default=5, help="counted steps of each")
    parser.add_argument("--contenders", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--same-allocator", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)

    first = options.tokens[0]
    anchor = Contender("ours", first, keeps_memory=True)
    anchor.ask("step")
    print(
        f"L6 D512 V8192 B{BATCH_SIZE}, bfloat16 autocast, fused AdamW, clipped; "
        f"{anchor.ask('threads')} threads; "
        f"{'one allocator for all' if options.same_allocator else 'each its own allocator'}; "
        f"{options.rounds} rounds"
    )
    anchor.end()
    results = [measure(n_tokens, first, options) for n_tokens in options.tokens]
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def measure(n_tokens: int, first: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all contenders at one length, and ours at the first length in between."""
    names = [
        name
        for name in options.contenders
        if name != "RwkvForCausalLM" or n_tokens <= RWKV_MAX_TOKENS
    ]
    contenders = [
        Contender(name, n_tokens, keeps_memory=name == "ours" or options.same_allocator)
        for name in names
    ]
    anchor = Contender("ours", first, keeps_memory=True)
    for each in (*contenders, anchor):
        each.ask("step")  # not counted: memory is mapped, products are compiled
    ours = next((each for each in contenders if each.name == "ours"), None)
    matrices = []
    for round_number in range(options.rounds):
        turns = contenders if round_number % 2 == 0 else contenders[::-1]
        for each in (*turns, anchor):
            each.step()
        if ours is not None:
            matrices.append(ours.ask("matrices"))
    result = {"tokens": n_tokens, "contenders": [summary(each, ours) for each in contenders]}
    if ours is not None:
        result["ours"] = figures(ours, anchor, statistics.median(matrices))
    for each in (*contenders, anchor):
        each.end()
    show(result)
    return result


def summary(contender: Contender, ours: Contender | None) -> dict[str, Any]:
    """Return what there is to say of each."""
    times = None if ours is None else contender.s_a_token / ours.s_a_token
    return {
        "name": contender.name,
        "tokens_per_s": 1 / contender.s_a_token,
        "spread": contender.spread,
        "ours_is_times": times,
        # Before the profiled step, which holds its records.
        "peak_memory_bytes": contender.ask("memory"),
        "seconds": contender.steps,
    }


def figures(ours: Contender, anchor: Contender, alone_s: float) -> dict[str, float]:
    """Return what there is to say of ours alone."""
    flops = FLOPS_A_TOKEN * BATCH_SIZE * ours.n_tokens
    step_s = statistics.median(ours.steps)
    return {
        "token_cost_over_first": ours.s_a_token / anchor.s_a_token,
        "flops_per_s": flops / step_s,
        "matrices_alone_flops_per_s": flops / alone_s,
        "share_of_matrices_alone": alone_s / step_s,
        **ours.ask("shares"),
    }


def show(result: dict[str, Any]) -> None:
    """Print one length."""
    print(f"\nT {result['tokens']}")
    for each in result["contenders"]:
        times = each["ours_is_times"]
        print(
            f"  {each['name']:<20}{each['tokens_per_s']:>10,.0f} tokens/s"
            f"   spread {each['spread']:>4.0%}"
            f"   memory {each['peak_memory_bytes'] / 1e9:6.2f} GB"
            + (f"   ours is {times:5.2f} x" if times and each["name"] != "ours" else "")
        )
    if "ours" in result:
        mine = result["ours"]
        print(
            f"  a token of ours costs {mine['token_cost_over_first']:.3f} of one at the first "
            f"length\n"
            f"  {mine['flops_per_s'] / 1e9:,.0f} GFLOP/s, {mine['share_of_matrices_alone']:.0%} of "
            f"the {mine['matrices_alone_flops_per_s'] / 1e9:,.0f} of its matrix products alone\n"
            f"  of its time: matrix products {mine['matrix_share']:.1%}, "
            f"WKV {mine['wkv_share']:.1%}"
        )
        for name, share in mine.items():
            if name.startswith("share of "):
                print(f"    {name.removeprefix('share of '):<50}{share:>6.1%}")


if __name__ == "__main__":
    sys.exit(main())

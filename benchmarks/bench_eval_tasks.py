"""Tasks of four choices: each context read once and forked, beside read anew for every choice.

    python benchmarks/bench_eval_tasks.py
    python benchmarks/bench_eval_tasks.py --size 169m --format float32 --context 1024

Both score the same requests through the adapter of lm-eval-harness, in turns. Weights and texts
are random. It fails if a number differs by more than rounding, or the fork is not twice as fast.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from lm_eval.api.instance import Instance

from receptance.benchmark import Timed, alternate, random_model
from receptance.evaluation.tasks import HarnessModel
from receptance.inference import LanguageModel
from receptance.models import RWKV4Config
from receptance.tokenizer import load_tokenizer

TOLERANCE = 1e-5
"""Of a sum of ln p, relative: sums of float32 in another order."""


def requests(items: int, context: int, choices: int, choice: int) -> list[Instance]:
    """Return what the harness asks of a task of choices, in bytes that are all one token."""
    generator = torch.Generator().manual_seed(0)

    def text(length: int) -> str:
        return bytes(torch.randint(97, 123, (length,), generator=generator).tolist()).decode()

    contexts = [text(context + 16 * index) for index in range(items)]
    return [
        Instance("loglikelihood", {}, (each, text(choice)), index)
        for each in contexts
        for index in range(choices)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print what was found and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Scoring four choices of a shared context.")
    parser.add_argument("--size", default="169m")
    parser.add_argument("--format", default="float32")
    parser.add_argument("--items", type=int, default=2)
    parser.add_argument("--context", type=int, default=512, help="tokens")
    parser.add_argument("--choices", type=int, default=4)
    parser.add_argument("--choice", type=int, default=8, help="tokens")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = random_model(RWKV4Config.preset(options.size), options.format)
    lm = LanguageModel(model, load_tokenizer("bytes"))
    asked = requests(options.items, options.context, options.choices, options.choice)
    answers: dict[bool, list[tuple[float, bool]]] = {}

    def timed(*, forks: bool) -> Timed:
        adapter = HarnessModel(lm, forks=forks)
        answers[forks] = adapter.loglikelihood(asked)
        return Timed(lambda: adapter.loglikelihood(asked))

    forked, anew = timed(forks=True), timed(forks=False)
    alternate([forked, anew], options.rounds)
    times = forked.times_shorter_than(anew)
    pairs = zip(answers[True], answers[False], strict=True)
    apart = max(abs(a - b) / abs(b) for (a, _), (b, _) in pairs)
    shape = f"{options.items} items, contexts of {options.context} tokens and more"
    print(f"{options.size} {options.format}, {shape}, {options.choices} choices")
    for name, each in (("read once", forked), ("read anew", anew)):
        print(f"  {name:10}{options.items / each.median_s:10.2f} items/s")
    print(f"  {times:.2f} times as fast; numbers at most {apart:.1e} apart, relative")
    if options.json is not None:
        found = {"times_as_fast": times, "apart": apart, "forked_s": forked.median_s}
        options.json.write_text(json.dumps({**found, "anew_s": anew.median_s}, indent=2) + "\n")
    return 0 if times >= 2 and apart <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())

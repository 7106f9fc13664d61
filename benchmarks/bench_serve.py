"""The server under load, beside the engine that it has.

    python benchmarks/bench_serve.py
    python benchmarks/bench_serve.py --quick
    python benchmarks/bench_serve.py --part stream --rounds 9

Each part is a server of a model with random weights, with the settings that it has by itself, and
a client in another process on the same cores (`serve_client.py`):

    stream      16 streams at once, in turns with the same requests to an engine called directly;
                the texts have to be the same
    overload    ten times the requests that the server can answer, for a minute
    slow        honest clients, without and with 200 connections that are silent or drip
    turns       the second turn of a chat whose first had 4,000 tokens, with the cache and without
    aborts      1,000 requests whose clients leave at random moments

`--quick` does all of it with a small model, in seconds: it shows that the command works, and its
figures say nothing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from receptance.benchmark import Timed, alternate, random_model
from receptance.inference import Engine, LanguageModel, Request, SamplingParams
from receptance.models import RWKV4Config
from receptance.serving.settings import Settings
from receptance.tokenizer import load_tokenizer
from serve_live import MemoryLog, serving

PARTS = ("stream", "overload", "slow", "turns", "aborts")
TOKENIZER = Path(__file__).parents[2] / "shared" / "data" / "tokenizers" / "20B_tokenizer.json"
N_STREAMS = 16
LINGER_S = 3.0
"""What a connection may take beyond its limit: it is told why, and then given time to read it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of everything."""

    prompt_tokens: int = 32
    tokens: int = 128
    rounds: int = 5
    peak_s: float = 20.0
    flood_s: float = 60.0
    honest_s: float = 30.0
    n_slow: int = 200
    turn_tokens: int = 4000
    n_turns: int = 3
    n_aborts: int = 1000
    settings: Settings = field(default_factory=lambda: Settings(port=0))


QUICK = Plan(
    prompt_tokens=8,
    tokens=16,
    rounds=2,
    peak_s=1.0,
    flood_s=2.0,
    honest_s=1.5,
    n_slow=60,
    turn_tokens=2000,
    n_turns=1,
    n_aborts=100,
    settings=Settings(port=0, header_seconds=1.0, body_seconds=1.0),
)


class Aim(NamedTuple):
    """What is aimed at, and what was found."""

    what: str
    bound: float
    found: float
    pattern: str
    is_least: bool = True

    @property
    def is_met(self) -> bool:
        """Whether what was found is on the right side of the bound."""
        return self.found >= self.bound if self.is_least else self.found <= self.bound


class Prompts:
    """Prompts of random tokens, none of which comes twice."""

    def __init__(self, lm: LanguageModel, plan: Plan) -> None:
        """Begin.

        Args:
            lm: Whose tokens they are.
            plan: How long they are, and the texts behind them.
        """
        self._vocab_size = lm.tokenizer.vocab_size
        self._plan = plan
        self._generator = torch.Generator().manual_seed(0)

    def tokens(self, n: int) -> list[int]:
        """Return `n` tokens, none of which ends a text."""
        return torch.randint(1, self._vocab_size, (n,), generator=self._generator).tolist()

    def bodies(self, n: int, max_tokens: int | None = None) -> list[dict[str, Any]]:
        """Return requests for streams, each with a seed."""
        return [
            {
                "model": "receptance",
                "prompt": self.tokens(self._plan.prompt_tokens),
                "max_tokens": max_tokens or self._plan.tokens,
                "seed": seed,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            for seed in range(n)
        ]


def stream(lm: LanguageModel, plan: Plan) -> Iterator[Aim]:
    """Compare streams over HTTP with the engine called directly."""
    prompts = Prompts(lm, plan)
    rounds = [prompts.bodies(N_STREAMS) for _ in range(plan.rounds + 1)]
    texts: dict[str, list[list[str]]] = {"http": [], "directly": []}
    n_tokens: list[int] = []
    n_events: list[int] = []
    loop_s = client_s = 0.0
    with serving(lm, plan.settings) as live:

        def over_http() -> None:
            nonlocal loop_s, client_s
            began_s = live.loop_cpu_s()
            found = live.ask("at_once", bodies=rounds[len(texts["http"])])
            loop_s += live.loop_cpu_s() - began_s
            client_s += found["cpu_s"]
            answers = found["answers"]
            texts["http"].append([each["text"] for each in answers])
            n_tokens.append(sum(each["n_tokens"] for each in answers))
            n_events.append(sum(each["n_events"] for each in answers))

        def directly() -> None:
            texts["directly"].append(written_directly(lm, rounds[len(texts["directly"])], plan))

        cases = Timed(over_http), Timed(directly)
        for each in cases:
            each.run()
        alternate(cases, plan.rounds)
    if texts["http"] != texts["directly"]:
        sys.exit("the texts over HTTP must be those of the engine, but they are not")
    http, direct = cases
    for name, each in (("over HTTP", http), ("directly", direct)):
        per_s = statistics.median(n_tokens) / each.median_s
        print(f"  {name:12}{per_s:10,.1f} tokens/s, spread {each.spread:.1%}")
    loop_us, client_us = (1e6 * each / sum(n_tokens) for each in (loop_s, client_s))
    print(
        f"  {sum(n_tokens) / sum(n_events):.2f} tokens an event; of the cores' time, a token takes "
        f"the server's loop {loop_us:,.0f} us and the client {client_us:,.0f} us"
    )
    share = http.times_shorter_than(direct)
    yield Aim("streams over HTTP, of the engine", 0.9, share, ".1%")


def written_directly(lm: LanguageModel, bodies: list[dict[str, Any]], plan: Plan) -> list[str]:
    """Return the texts that an engine writes for requests, made as the server makes its own."""
    engine = Engine(
        lm, max_sequences=N_STREAMS, chunk_tokens=plan.settings.chunk_tokens, poison=True
    )
    texts: dict[int, str] = {}
    for each in bodies:
        params = SamplingParams(max_tokens=each["max_tokens"], seed=each["seed"])
        texts[engine.add(Request(each["prompt"], params))] = ""
    while engine.n_running + engine.n_waiting:
        for output in engine.step():
            if output.error is not None:
                raise output.error
            texts[output.id] += output.text
    return list(texts.values())


def overload(lm: LanguageModel, plan: Plan) -> Iterator[Aim]:
    """Ask for ten times what the server can do, and before and after that for what it can."""
    prompts = Prompts(lm, plan)  # new ones each time: none is remembered
    peaks: list[float] = []
    with serving(lm, plan.settings) as live:

        def look_at_peak() -> None:
            bodies = prompts.bodies(512)
            found = live.ask("in_turn", bodies=bodies, n_clients=N_STREAMS, seconds=plan.peak_s)
            begin, end = found["began"] + plan.peak_s / 4, found["began"] + plan.peak_s
            peaks.append(tokens_per_s(found["answers"], begin, end))

        look_at_peak()
        look_at_peak()
        metrics = live.app.service.metrics
        memory = MemoryLog(lambda: metrics.value("state_cache_bytes"))
        with memory.kept():
            per_s = 10 * statistics.median(peaks) / plan.tokens
            bodies = prompts.bodies(1 + int(per_s * plan.flood_s))
            found = live.ask("flood", bodies=bodies, per_s=per_s, seconds=plan.flood_s)
        look_at_peak()
        look_at_peak()
    peak = statistics.median(peaks)
    answers, end = found["answers"], found["began"] + plan.flood_s
    goodput = tokens_per_s(answers, found["began"] + plan.flood_s / 4, end)
    refused = [each["ended"] - each["began"] for each in answers if each["status"] == 429]
    n_whole = sum(each["status"] == 200 for each in answers)
    n_other = len(answers) - n_whole - len(refused)
    print(f"  peak {peak:,.1f} tokens/s, of {'; '.join(f'{each:,.1f}' for each in peaks)}")
    print(
        f"  under overload {goodput:,.1f}; "
        f"of {len(answers)} requests, {per_s:,.1f} a second, {n_whole} were answered and "
        f"{len(refused)} refused"
    )
    print(f"  429 in {median_and_p99(refused)}")
    print(f"  memory beside remembered prompts: {memory}")
    yield Aim("goodput under overload, of the peak", 0.9, goodput / peak, ".1%")
    yield Aim("99 of 100 refusals, ms", 100.0, 1000 * quantile(refused, 0.99), ".0f", False)
    yield Aim("slowest refusal, ms", 100.0, 1000 * max(refused, default=0.0), ".0f", False)
    yield Aim("neither answered nor refused", 0.0, n_other, ".0f", False)
    yield Aim("growth of memory under overload", 0.02, memory.growth, ".2%", False)


def tokens_per_s(answers: list[dict[str, Any]], begin: float, end: float) -> float:
    """Return the tokens a second of whole answers between two times.

    Those of one come evenly from its first text to its end.
    """
    n = 0.0
    for each in answers:
        if each["status"] == 200 and each["n_tokens"] and each["first"] is not None:
            within = min(each["ended"], end) - max(each["first"], begin)
            n += each["n_tokens"] * max(0.0, within) / max(each["ended"] - each["first"], 1e-9)
    return n / (end - begin)


def slow(lm: LanguageModel, plan: Plan) -> Iterator[Aim]:
    """Set honest clients beside slow connections."""
    bodies = Prompts(lm, plan).bodies(256, max_tokens=16)
    latencies: dict[int, list[float]] = {0: [], plan.n_slow: []}
    longest: dict[str, float] = {}
    with serving(lm, plan.settings) as live:
        for n_slow in (0, plan.n_slow, plan.n_slow, 0):
            found = live.ask(
                "beside_slow", bodies=bodies, n_clients=4, seconds=plan.honest_s, n_slow=n_slow
            )
            latencies[n_slow] += [each["ended"] - each["began"] for each in found["answers"]]
            for kind, seconds in found["longest"].items():
                longest[kind] = max(longest.get(kind, 0.0), seconds)
    for n_slow, seconds in latencies.items():
        p95 = quantile(seconds, 0.95)
        print(f"  beside {n_slow:3} slow ones: {len(seconds)} requests, p95 {1000 * p95:.1f} ms")
    times = quantile(latencies[plan.n_slow], 0.95) / quantile(latencies[0], 0.95)
    yield Aim("p95 of honest clients, times", 1.1, times, ".2f", False)
    limits = {
        "silent": plan.settings.header_seconds,
        "header": plan.settings.header_seconds,
        "body": plan.settings.body_seconds,
    }
    for kind, seconds in longest.items():
        yield Aim(
            f"slow connection closed ({kind}), s", limits[kind] + LINGER_S, seconds, ".1f", False
        )


def turns(lm: LanguageModel, plan: Plan) -> Iterator[Aim]:
    """Ask a second time behind a long first turn, with the cache and without."""
    prompts = Prompts(lm, plan)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for has_cache in seconds:
        settings = plan.settings if has_cache else replace(plan.settings, state_cache_bytes=0)
        with serving(lm, settings) as live:
            for _ in range(plan.n_turns):
                body = prompts.bodies(1, max_tokens=8)[0]
                first = prompts.tokens(plan.turn_tokens)
                for prompt in (first, [*first, *prompts.tokens(32)]):
                    asked = live.ask("at_once", bodies=[{**body, "prompt": prompt}])
                    (answer,) = asked["answers"]
                seconds[has_cache].append((answer["first"] or answer["ended"]) - answer["began"])
                assert bool(answer["cached_tokens"]) == has_cache
    medians = {each: statistics.median(found) for each, found in seconds.items()}
    print(f"  with {1000 * medians[True]:.1f} ms, without {1000 * medians[False]:,.1f} ms")
    yield Aim("second turn's first token, times", 20.0, medians[False] / medians[True], ".1f")


def aborts(lm: LanguageModel, plan: Plan) -> Iterator[Aim]:
    """Leave at random moments, and count what is left behind."""
    bodies = Prompts(lm, plan).bodies(256)
    with serving(lm, plan.settings) as live:
        live.ask("at_once", bodies=bodies[:N_STREAMS])
        time.sleep(0.5)
        before = live.open_things()
        began = time.perf_counter()
        live.ask("at_once", bodies=bodies[:1])
        within_s = 4 * (time.perf_counter() - began)
        live.ask("abort", bodies=bodies, n=plan.n_aborts, n_clients=64, within_s=within_s)
        began = time.perf_counter()
        while any(n > before[what] for what, n in live.open_things().items()):
            if time.perf_counter() > began + 10:
                break
            time.sleep(0.01)
        print(f"  all gone {1000 * (time.perf_counter() - began):.0f} ms after the last left")
        for what, n in live.open_things().items():
            yield Aim(f"{what} left by aborts", 0.0, n - before[what], ".0f", False)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of values does not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def median_and_p99(seconds: Sequence[float]) -> str:
    """Return both in words."""
    return f"{1000 * quantile(seconds, 0.5):.1f} ms (p99 {1000 * quantile(seconds, 0.99):.1f})"


def model_of(options: argparse.Namespace) -> LanguageModel:
    """Return the model that is served."""
    config = RWKV4Config.preset(options.size)
    if options.quick:
        config = RWKV4Config(n_layer=2, n_embd=64, vocab_size=config.vocab_size)
    tokenizer = options.tokenizer or (TOKENIZER if TOKENIZER.is_file() else "bytes")
    model = random_model(config, options.format)
    return LanguageModel(model, load_tokenizer(str(tokenizer)), skips_zeros=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts, print what is aimed at beside what was found, write JSON where asked."""
    parser = argparse.ArgumentParser(description="The server under load.")
    parser.add_argument("--part", default=",".join(PARTS), help="several with commas between")
    parser.add_argument("--size", default="430m")
    parser.add_argument("--format", default="bfloat16")
    parser.add_argument("--tokenizer", help="default: the 20B_tokenizer.json of the data, or bytes")
    parser.add_argument("--rounds", type=int, help="of streams")
    parser.add_argument("--tokens", type=int, help="of each text")
    parser.add_argument("--quick", action="store_true", help="a small model, and less of all")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, tokens=options.tokens or plan.tokens)
    lm = model_of(options)
    parts = {
        "stream": stream,
        "overload": overload,
        "slow": slow,
        "turns": turns,
        "aborts": aborts,
    }
    aims: list[Aim] = []
    for name in options.part.split(","):
        print(name, flush=True)
        aims += parts[name](lm, plan)
    print(f"\n{'aimed at':44}{'':9}{'':>9}{'found':>10}")
    for each in aims:
        bound = f"{'at least' if each.is_least else 'at most':>9}{each.bound:>9{each.pattern}}"
        found = f"{each.found:>10{each.pattern}}"
        print(f"{each.what:44}{bound}{found}{'' if each.is_met else '  not'}")
    if options.json is not None:
        options.json.write_text(json.dumps([each._asdict() for each in aims], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

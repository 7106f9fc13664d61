"""How fast the tokenizers are, beside the packages that others use.

    python benchmarks/bench_tokenizers.py
    python benchmarks/bench_tokenizers.py --data ../shared/data --json tokenizers.json

World stands beside the `rwkv` package's trie, on the vocabulary that comes with it; byte-level BPE
beside the `tokenizers` library alone, on `tokenizers/20B_tokenizer.json` of the data, or without
it on 4096 tokens trained on the texts. Texts are WikiText-2's validation split, where the data is
there, and a part of Python's standard library. "open" opens the file and encodes a first prompt.
Ours and the other run in turn in one process, and a ratio is the median of those of all rounds,
after one that warms up. Ours encodes a long text by BPE on all cores, the library alone on one.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import tokenizers

from receptance.data import standard_library
from receptance.tokenizer import BPETokenizer, Tokenizer, WorldTokenizer, train_bpe

DATA = Path(__file__).parents[2] / "shared" / "data"
PROMPT = "The quick brown fox jumps over the lazy dog.\n\nUser: Why does it?\n\nAssistant:"
Pair = tuple[Callable[[], object], Callable[[], object]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each pair on each text, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="How fast the tokenizers are.")
    parser.add_argument("--data", type=Path, default=DATA, help="with wikitext-2 and tokenizers")
    parser.add_argument("--characters", type=int, default=1_000_000, help="how much of each text")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)

    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(f"tokenizers {tokenizers.__version__}, {options.rounds} rounds, medians\n")
    print(f"{'':32}{'ours':>14}{'other':>14}{'ratio':>8}{'lowest':>8}{'highest':>9}")
    known = texts(options.data, options.characters)
    results: dict[str, dict[str, float]] = {}
    for verb, (size, pair) in (world(known) | bpe(known, options.data)).items():
        results[verb] = row = compare(pair, options.rounds)
        both = row["ours_s"], row["other_s"]
        shown = [
            f"{size / 1e6 / each:.2f} MB/s" if size else f"{1e3 * each:.0f} ms" for each in both
        ]
        print(f"{verb:32}{shown[0]:>14}{shown[1]:>14}", end="")
        print(f"{row['ratio']:8.2f}{row['lowest']:8.2f}{row['highest']:9.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def texts(data: Path, characters: int) -> dict[str, str]:
    """Return what is encoded, by name."""
    found: dict[str, str] = {}
    wikitext = data / "wikitext-2" / "wiki.valid.tokens"
    if wikitext.is_file():
        found["WikiText-2"] = wikitext.read_text(encoding="utf-8")[:characters]
    else:
        print(f"without WikiText-2: there is no {str(wikitext)!r} (--data)")
    code = "".join(file.read_text(encoding="utf-8") for file in standard_library().train)
    found["standard library"] = code[:characters]
    return found


def world(known: dict[str, str]) -> dict[str, tuple[int, Pair]]:
    """Return the bytes and the pair of each of World's verbs, having checked that both agree."""
    package = importlib.util.find_spec("rwkv")
    if package is None or package.submodule_search_locations is None:
        print("without World: the `rwkv` package is not installed")
        return {}
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER  # noqa: PLC0415 - an optional oracle

    path = Path(package.submodule_search_locations[0], "rwkv_vocab_v20230424.txt")
    ours, other = WorldTokenizer.load(path), TRIE_TOKENIZER(path)
    opened = (
        lambda: WorldTokenizer.load(path).encode(PROMPT),
        lambda: TRIE_TOKENIZER(path).encode(PROMPT),
    )
    return {"World open": (0, opened)} | coding("World", known, ours, other.encode, other.decode)


def bpe(known: dict[str, str], data: Path) -> dict[str, tuple[int, Pair]]:
    """Return the bytes and the pair of each of BPE's verbs, having checked that both agree."""
    path = data / "tokenizers" / "20B_tokenizer.json"
    if path.is_file():
        definition = path.read_text(encoding="utf-8")
    else:
        print(f"BPE has 4096 tokens of the texts: there is no {str(path)!r} (--data)")
        with tempfile.TemporaryDirectory() as folder:
            train_bpe(known.values(), 4096).save(Path(folder))
            definition = Path(folder, "tokenizer.json").read_text(encoding="utf-8")
    ours, other = BPETokenizer(definition), tokenizers.Tokenizer.from_str(definition)
    other.encode_special_tokens = True

    def encode(text: str) -> list[int]:
        return other.encode_batch_fast([text], add_special_tokens=False)[0].ids

    opened = (
        lambda: BPETokenizer(definition).encode(PROMPT),
        lambda: tokenizers.Tokenizer.from_str(definition).encode(PROMPT),
    )
    return {"BPE open": (0, opened)} | coding("BPE", known, ours, encode, other.decode)


def coding(
    kind: str,
    known: dict[str, str],
    ours: Tokenizer,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str],
) -> dict[str, tuple[int, Pair]]:
    """Return the pairs that encode and decode each text, or end where the tokens differ."""
    pairs: dict[str, tuple[int, Pair]] = {}
    for name, text in known.items():
        tokens, size = ours.encode(text), len(text.encode())
        if encode(text) != tokens:
            sys.exit(f"{kind}: the other gives other tokens; the figures would mean nothing")
        pairs[f"{kind} encode, {name}"] = size, (partial(ours.encode, text), partial(encode, text))
        pairs[f"{kind} decode, {name}"] = (
            size,
            (partial(ours.decode, tokens), partial(decode, tokens)),
        )
    return pairs


def compare(pair: Pair, rounds: int) -> dict[str, float]:
    """Return the median seconds of both, and how many times faster the first is."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for run, times in zip(pair, seconds, strict=True):
            start = time.perf_counter()
            run()
            if number:
                times.append(time.perf_counter() - start)
    ratios = [other / ours for ours, other in zip(*seconds, strict=True)]
    return {
        "ours_s": statistics.median(seconds[0]),
        "other_s": statistics.median(seconds[1]),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


if __name__ == "__main__":
    sys.exit(main())

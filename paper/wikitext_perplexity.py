"""Perplexity of WikiText's test, or of another text, by word and by token."""

import gzip
import math
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from paper.harness import Experiment, Options, main, markdown_table, text_of
from paper.harness.training import train_model
from receptance.data import Boundaries, TokenStore, parse_boundaries, prepare
from receptance.evaluation import measure as measure_documents
from receptance.evaluation import read_documents
from receptance.inference import LanguageModel, load

RECIPE = Path(__file__).parents[1] / "recipes" / "wikitext2.toml"
ARTICLE = "^ = [^=]+ = $"
"""The line with which an article of WikiText begins."""
WIKITEXT_TEST = 241_211, 4_358
"""Words and lines of the test of both WikiText-2 and WikiText-103 (Merity et al. 2016), as
`wiki.test.tokens` has them; 245,569 with an end-of-sentence for each line."""
# In the place of the recipe's; and how many tokens are read at most.
QUICK = {"n_layer": 2, "n_embd": 64}
QUICK_STEPS, QUICK_TOKENS = 80, 8_000


class Counts(NamedTuple):
    """What a perplexity can be given by."""

    words: int
    """Runs of characters between white space."""
    lines: int


def measure(options: Options) -> dict[str, Any]:
    """Measure a given model on the last text, or one that is trained on those before it."""
    text = text_of(options)
    tests = [options.texts[-1]] if options.texts else list(text.held_out)
    if options.model is None and len(options.texts) == 1:
        message = "`--text` must name what is trained on, and last the test; or `--model`"
        raise SystemExit(message)
    boundaries, is_wikitext = _boundaries(tests[0])
    found: dict[str, Any] = {
        "text": text.entries(),
        "test": tests[-1].name if options.texts else "",
    }
    if options.model is not None:
        lm = load(options.model)
        found["model"] = options.model.name
    else:
        lm, told = _trained(options, is_wikitext=is_wikitext)
        found |= told
    limit = QUICK_TOKENS if options.scale == "quick" else None
    documents = read_documents(tests, lm.tokenizer, limit, boundaries=boundaries)
    blocks = measure_documents(lm.model, documents, lm.tokenizer, start=lm.start_state(None)).blocks
    counts = whole = counts_of("".join(_content(each) for each in tests))
    if limit is not None:
        read = (lm.tokenizer.decode_bytes(each.tokens.tolist()) for each in documents)
        counts = counts_of(b"".join(read).decode(errors="ignore"))
    figures = {name: each._asdict() for name, each in blocks.figures().items()}
    return {
        **found,
        "tokenizer": lm.tokenizer.name,
        "n_parameters": lm.model.config.n_parameters,
        "is_wikitext_test": whole == WIKITEXT_TEST,
        "is_whole": limit is None,
        "documents": len(documents),
        "nats": float(blocks.nats.sum()),
        "tokens": int(blocks.tokens.sum()),
        "words": counts.words,
        "lines": counts.lines,
        "figures": figures,
    }


def _boundaries(test: Path) -> tuple[Boundaries, bool]:
    """Return where documents end: at articles, where the text has some."""
    articles = parse_boundaries(None, ARTICLE)
    assert articles.start is not None
    is_wikitext = any(articles.start.match(line) for line in _content(test).splitlines())
    return (articles, True) if is_wikitext else (Boundaries(), False)


def _content(file: Path) -> str:
    data = file.read_bytes()
    if file.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode(errors="ignore")


def _trained(options: Options, *, is_wikitext: bool) -> tuple[LanguageModel, dict[str, Any]]:
    """Return a model that was trained with the recipe on all texts but the last."""
    settings = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    del settings["name"], settings["data"]["store"], settings["every"]
    size = settings["model"].pop("vocab_size")
    if options.scale == "quick":
        settings["model"], size = QUICK, 1024
        settings["training"]["steps"] = QUICK_STEPS
        settings["data"]["ctx_len"] = 64
    text = text_of(options)
    folder = options.work / "stores" / f"wikitext-{text.sha256[:12]}"
    if (folder / "store.json").is_file():
        store = TokenStore.open(folder)
    elif options.texts:
        start = ARTICLE if is_wikitext else None
        store = prepare(options.texts[:-1], f"train:{size}", folder, document_start=start)
    else:
        store = prepare(text.train, f"train:{size}", folder, valid=text.held_out)
    trained = train_model(f"wikitext-{text.sha256[:8]}", store, options.work, settings)
    return load(trained.folder / "model"), {
        "trained_on": [file.name for file in options.texts[:-1]],
        "steps": settings["training"]["steps"],
    }


def counts_of(text: str) -> Counts:
    """Return how many words and lines a text has."""
    return Counts(len(text.split()), text.count("\n"))


def perplexities(nats: float, tokens: int, counts: Counts) -> dict[str, float]:
    """Return exp(nats / n), for all that n is taken for."""
    return {
        "token": math.exp(nats / tokens),
        "word and line": math.exp(nats / (counts.words + counts.lines)),
        "word": math.exp(nats / counts.words),
    }


def section(found: dict[str, Any]) -> str:
    """Return the perplexity by all conventions."""
    counts = Counts(found["words"], found["lines"])
    by = perplexities(found["nats"], found["tokens"], counts)
    numbers = {
        "token": found["tokens"],
        "word and line": counts.words + counts.lines,
        "word": counts.words,
    }
    means = {
        "token": f"the tokenizer's ({found['tokenizer']}), the end of each document among them",
        "word and line": "words between white space, and the end of each line, as in Merity et al.",
        "word": "words between white space",
    }
    rows = [(f"by {name}", means[name], f"{numbers[name]:,}", f"{by[name]:.2f}") for name in by]
    what = f"`{found['test']}`" if found["test"] else "What is held out of the standard library"
    if found["is_wikitext_test"]:
        told = (
            f"{what} has the {WIKITEXT_TEST[0]:,} words and {WIKITEXT_TEST[1]:,} lines of "
            "WikiText's test, which WikiText-2 and WikiText-103 share: a figure says which of the "
            "two was trained on."
        )
    else:
        told = (
            f"**{what} is not the test of WikiText**: these figures compare with no published one."
        )
    if not found["is_whole"]:
        told += " Only its beginning was read."
    bits = found["figures"]["bits_per_byte"]
    told += f" {bits['value']:.3f} bits per byte. Documents: {found['documents']:,}"
    if "model" in found:
        by_whom = f"by `{found['model']}`"
    else:
        on = ", ".join(f"`{each}`" for each in found["trained_on"]) or "the other files"
        by_whom = f"by a model trained here on {on}, {found['steps']:,} steps"
    return (
        f"{markdown_table(('perplexity', 'of', 'how many', 'exp(nats / how many)'), rows)}\n\n"
        f"{told}, each read whole with the state carried, {by_whom}, of "
        f"{found['n_parameters'] / 1e6:.1f}M weights."
    )


EXPERIMENT = Experiment(
    name="wikitext_perplexity",
    title="WikiText: perplexity by word and by token",
    claim=(
        "None: the paper gives no perplexity of WikiText, by which models are compared elsewhere, "
        "under conventions that are seldom said."
    ),
    differs=(
        "The same nats are divided by three numbers. `--text wiki.train.tokens wiki.test.tokens` "
        "trains the model of `recipes/wikitext2.toml` on all but the last file and measures it on "
        "the last, `--model FOLDER --text wiki.test.tokens` measures any. The text is read as it "
        "is in the file, `<unk>` and ` @-@ ` included: the figures of lm-eval, which undoes that, "
        "are others. An article begins at a line of the form ` = … = `, which two formulas of the "
        "test have, too: it has 60 articles. Without `--text` it is the standard library, and no "
        "WikiText."
    ),
    measure=measure,
    section=section,
    takes_model=True,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))

"""Figure 11: where a model has a fact that it recalls, by causal tracing."""

import itertools
import math
import random
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.harness import (
    COLOURS,
    Experiment,
    Options,
    main,
    markdown_table,
    new_figure,
    text_of,
)
from paper.harness.facts import SENTENCES, made_up_facts
from paper.harness.text import Text
from paper.harness.tracing import NOISE, Fact, Trace, embedding_deviation, trace
from paper.harness.training import train_model
from receptance.atomic import atomic_file
from receptance.data import TokenStore, prepare
from receptance.inference import LanguageModel, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EIFFEL = Fact("The Eiffel Tower is located in the city of", "Eiffel Tower", "Paris")
# Given names, family names, repetitions; bytes of text around each sentence; L, D, steps.
SIZES = {"quick": (3, 2, 60, 60, 3, 64, 250), "small": (8, 6, 100, 200, 8, 128, 4000)}
KNOWN, LOST = math.log(0.1), 1.0  # log-probabilities; the paper's clean run has about -1


def measure(options: Options) -> dict[str, Any]:
    """Trace one prompt of a given model, or all facts of one that is trained on them here."""
    if options.model is not None:
        named = [options.given.get(each, getattr(EIFFEL, each)) for each in Fact._fields]
        return {"model": options.model.name, **traces(load(options.model), [Fact(*named)])}
    text = text_of(options)
    n_given, n_family, n_times, n_around, n_layer, n_embd, steps = SIZES[options.scale]
    facts = made_up_facts(n_given, n_family)
    store = _store(text, facts, n_times, n_around, options)
    trained = train_model(
        f"figure-11-{text.sha256[:8]}",
        store,
        options.work,
        {
            "model": {"n_layer": n_layer, "n_embd": n_embd},
            "data": {"ctx_len": 128, "batch_size": 8 if options.scale == "quick" else 16},
            "training": {"steps": steps},
            "optimizer": {"lr": 5e-3 if options.scale == "quick" else 2e-3},
            "schedule": {"kind": "cosine", "warmup_steps": 20, "final_lr": 1e-4},
        },
    )
    return {
        "text": text.entries(),
        "n_steps": steps,
        "n_times": n_times * len(SENTENCES),
        **traces(load(trained.folder / "model"), facts),
    }


def _store(
    text: Text, facts: list[Fact], n_times: int, n_around: int, options: Options
) -> TokenStore:
    """Return the tokens of all sentences in a random order, with some of the text around each."""
    folder = (
        options.work / "stores" / f"figure-11-{text.sha256[:12]}-{len(facts)}-{n_times}-{n_around}"
    )
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    sentences = [
        each.format(fact.subject, fact.answer)
        for fact, each, _ in itertools.product(facts, SENTENCES, range(n_times))
    ]
    random.Random(1).shuffle(sentences)
    around = _beginning(text.train, n_around * len(sentences))
    parts = (around[place : place + n_around] for place in itertools.count(0, n_around))
    mixed = options.work / "figure-11.txt"
    mixed.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(mixed) as staged:
        pairs = zip(sentences, parts, strict=False)
        staged.write_text("\n".join(f"{a}\n{b}" for a, b in pairs), encoding="utf-8")
    return prepare([mixed], "train:1024", folder)


def _beginning(files: tuple[Path, ...], n_characters: int) -> str:
    found = ""
    for file in files:
        found += file.read_text(encoding="utf-8", errors="ignore")
        if len(found) >= n_characters:
            break
    return found[:n_characters]


def traces(lm: LanguageModel, facts: list[Fact]) -> dict[str, Any]:
    """Return the trace of each fact, the answer's log-probability rounded."""
    deviation = embedding_deviation(lm, facts)
    found = [trace(lm, fact, deviation) for fact in facts]
    return {
        "n_layer": lm.model.config.n_layer,
        "n_embd": lm.model.config.n_embd,
        "deviation": deviation,
        "facts": [
            {**fact._asdict(), **each._asdict()} for fact, each in zip(facts, found, strict=True)
        ],
    }


def share(each: Trace, layer: int, place: int) -> float:
    """Return what part of what the noise took is brought back, in log-probability."""
    return (each.restored[layer][place] - each.corrupted) / (each.clean - each.corrupted)


def _known(found: dict[str, Any]) -> list[Trace]:
    """Return the traces of what the model knows, and the noise makes it forget."""
    made = [Trace(*(fact[name] for name in Trace._fields)) for fact in found["facts"]]
    return [each for each in made if each.clean > KNOWN and each.clean - each.corrupted > LOST]


def _shown(found: dict[str, Any]) -> Trace:
    """Return the first fact that is known, or the first."""
    fact = found["facts"][0]
    return next(iter(_known(found)), Trace(*(fact[name] for name in Trace._fields)))


def _places(each: Trace) -> dict[str, int]:
    """Return the tokens that every prompt has."""
    return {
        "the subject's last token": each.subject[1] - 1,
        "the token after it": min(each.subject[1], len(each.tokens) - 1),
        "the token before the last": len(each.tokens) - 2,
        "the last token": len(each.tokens) - 1,
    }


def means(known: list[Trace]) -> dict[str, list[float]]:
    """Return the mean share that each layer brings back, at the tokens that all prompts have."""
    n_layer = len(known[0].restored)
    return {
        name: [
            statistics.fmean(share(each, layer, _places(each)[name]) for each in known)
            for layer in range(n_layer)
        ]
        for name in _places(known[0])
    }


def section(found: dict[str, Any]) -> str:
    """Return where and how much of the answer comes back."""
    known = _known(found)
    shown = _shown(found)
    told = (
        f"Of {len(found['facts'])} facts {len(known)} are known (the answer's probability is above "
        "a tenth, and the noise takes more than a nat of its logarithm). "
        f'Drawn is "{"".join(shown.tokens)}": its answer has a log-probability of '
        f"{shown.clean:.2f}, with the noise of {shown.corrupted:.2f}."
    )
    paper = (
        'The paper, with 430M weights and 24 layers, for "The Eiffel Tower is located in the city '
        'of": the fact is there from about layer 4 on at "el" (of "Eiffel"), is kept up to about '
        'layer 20, carried on mostly in layer 20, and in the last layers at "of".'
    )
    if not known:
        return f"{told} So there is nothing to be traced.\n\n{paper}"
    rows = []
    for name, shares in means(known).items():
        half = [str(layer) for layer, each in enumerate(shares, start=1) if each >= 0.5]
        best = max(range(len(shares)), key=shares.__getitem__)
        rows.append((name, ", ".join(half) or "none", best + 1, f"{shares[best]:.0%}"))
    head = ("restored at", "layers that bring back half", "best layer", "brings back")
    return (
        f"{told}\n\n{markdown_table(head, rows)}\n\n"
        f"The mean over these facts, as a part of the log-probability that the noise took; layers "
        f"are counted from 1 to {found['n_layer']}. At the last token the last layer brings back "
        f"all of an answer of one token, whatever the model is. {_verdict(known)}\n\n{paper}"
    )


def _verdict(known: list[Trace]) -> str:
    """Return whether the fact is brought back at the subject, as the paper has it."""
    best = max(means(known)["the subject's last token"])
    if best >= 0.5:
        return "At the subject's last token a layer brings back half, as in the paper."
    return (
        f"At the subject's last token no layer brings back more than {best:.0%}: that facts are "
        "retrieved there, as the paper has it, is not seen in this model."
    )


def draw(found: dict[str, Any]) -> "Figure":
    """Draw one fact as layer by token, and the mean of all beside it."""
    figure, axes = new_figure(2, width=5.6, height=4)
    one, mean = axes.flat
    shown = _shown(found)
    image = one.imshow(shown.restored, aspect="auto", origin="lower", cmap="viridis")
    bar = figure.colorbar(image, ax=one)
    bar.set_label("log-probability of the answer")
    first, end = shown.subject
    labels = [
        f"{each}*" if first <= place < end else each for place, each in enumerate(shown.tokens)
    ]
    one.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    one.set_yticks(range(found["n_layer"]), range(1, found["n_layer"] + 1))
    one.set_xlabel("token whose output is put back (* the subject)")
    one.set_ylabel("layer")
    one.grid(visible=False)
    one.set_title(f"clean {shown.clean:.2f}, with noise {shown.corrupted:.2f}")
    known = _known(found)
    lines = means(known) if known else {}
    for (name, shares), colour in zip(lines.items(), COLOURS, strict=False):
        layers, percents = range(1, len(shares) + 1), [100 * each for each in shares]
        mean.plot(layers, percents, ".-", color=colour, label=name)
        mean.set_xticks(layers)
    mean.set_xlabel("layer")
    mean.set_ylabel("brought back, % of what the noise took")
    mean.set_title(f"the mean of {len(known)} facts")
    if known:
        mean.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="figure_11_causal_trace",
    title="Figure 11: causal trace",
    claim=(
        "What is known of a subject is retrieved in lower layers at its last token, carried along "
        "by few layers, and used by the last layers at the end (section 6, appendix I, figure 11)."
    ),
    differs=(
        "The paper traces one fact of the published 430M, with what noise it does not say; "
        "`--model FOLDER --prompt … --subject … --answer …` does so of any model, by default with "
        "the paper's prompt. Without, a small model is trained on made-up facts (where people were "
        "born, each in five sentences that are repeated many times among other text), and all "
        f"facts that it knows are traced. The noise has {NOISE:g} times the standard deviation of "
        "the subjects' embeddings, as in Meng et al. 2022. Every layer's "
        "state carries the subject on by itself, so the output of one layer at one token, put "
        "back, may bring back little."
    ),
    measure=measure,
    section=section,
    draw=draw,
    takes_model=True,
    arguments={
        "prompt": "the text before the answer",
        "subject": "what of the prompt is disturbed",
        "answer": "what the model should say",
    },
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))

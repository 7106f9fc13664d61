"""Tables 6 and 7: whether the question comes before the text that it is about, or after it."""

import hashlib
import json
import math
import random
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from paper.harness.classifier import interval
from paper.harness.training import train_model
from receptance.atomic import atomic_file
from receptance.data import TokenStore, prepare
from receptance.inference import LanguageModel, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Accuracy or F1 of RWKV-4-Raven-14B: with the prompt made for GPT, and with one adapted to it.
PAPER = {
    "RTE, F1 macro": (44.2, 74.8),
    "WNLI, accuracy": (47.9, 49.3),
    "GoEmotions, F1 macro": (7.9, 7.9),
    "PolEmo2, F1 macro": (38.2, 40.9),
}
NAMES = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gil", "Hal", "Ida", "Joe", "Kim", "Leo")
DIGITS = tuple(str(digit) for digit in range(10))
YES_NO = ("no", "yes")
ORDERS = ("question first", "text first")
TASKS = ("how many", "yes or no")
CHANCE = {"how many": "10%", "yes or no": "50%"}


class Item(NamedTuple):
    """A question about a text, and what can be answered."""

    text: str
    question: str
    choices: tuple[str, ...]
    answer: str

    def prompt(self, order: str) -> str:
        """Return what the model reads before it answers."""
        parts = [f"Question: {self.question}", f"Text: {self.text}"]
        parts = parts if order == "question first" else parts[::-1]
        return "\n".join([*parts, "Answer:"])


class Size(NamedTuple):
    """What a scale is."""

    n_facts: tuple[int, ...]
    """Sentences in a text; the model is trained on all these, in turn."""
    n_train: int
    n_test: int
    """Items of each order, task and number of facts."""
    n_layer: int
    n_embd: int
    n_steps: int
    ctx_len: int
    seeds: tuple[int, ...]


SIZES = {
    "quick": Size((2, 4), 400, 20, 2, 32, 40, 128, (1,)),
    "small": Size((2, 3, 4), 200_000, 200, 4, 128, 4000, 256, (1, 2)),
}
# Enough that every word is a token: what is asked for is then found by one token, not by several.
TOKENIZER = "train:512"


def item(draw: random.Random, task: str, n_facts: int) -> Item:
    """Return a made-up item: so many people, each with a number of things."""
    numbers = {name: draw.randrange(10) for name in draw.sample(NAMES, n_facts)}
    text = ", ".join(f"{name} has {number}" for name, number in numbers.items()) + "."
    name = draw.choice(list(numbers))
    if task == "how many":
        return Item(text, f"How many has {name}?", DIGITS, str(numbers[name]))
    # As often right as wrong, whatever the numbers are.
    is_so = draw.random() < 0.5
    others = [number for number in range(10) if number != numbers[name]]
    asked = numbers[name] if is_so else draw.choice(others)
    return Item(text, f"Has {name} {asked}?", YES_NO, YES_NO[is_so])


def measured_items(n: int, n_facts: int, task: str) -> list[Item]:
    """Return the `n` items that are measured; none of them is trained on."""
    draw = random.Random(f"test {task} {n_facts}")
    return [item(draw, task, n_facts) for _ in range(n)]


def training_items(size: Size) -> Iterator[Item]:
    """Yield the items that are trained on: as many of each order, task and number of facts."""
    measured = {
        each
        for n_facts in size.n_facts
        for task in TASKS
        for each in measured_items(size.n_test, n_facts, task)
    }
    draw = random.Random(1)
    for index in range(size.n_train):
        task, n_facts = TASKS[index // 2 % 2], size.n_facts[index // 4 % len(size.n_facts)]
        each = item(draw, task, n_facts)
        while each in measured:
            each = item(draw, task, n_facts)
        yield each


def by_numbers_alone(items: list[Item]) -> float:
    """Return the share of right answers of the best reader who does not look whose a number is.

    Asked how many, it tells a number that is most often in the text; asked whether it is so many,
    it says yes if that number is in the text.
    """
    shares = []
    for each in items:
        numbers, asked = (re.findall(r"\d", part) for part in (each.text, each.question))
        if asked:
            shares.append(float(YES_NO[asked[0] in numbers] == each.answer))
        else:
            shares.append(max(map(numbers.count, numbers)) / len(numbers))
    return statistics.fmean(shares)


def measure(options: Options) -> dict[str, Any]:
    """Measure a given model, or those that are trained here on as many items of either order."""
    size = SIZES[options.scale]
    if options.model is not None:
        rows = [_answered(load(options.model), size)]
        return {"model": str(options.model), "rows": rows, "n_test": size.n_test}
    store = _store(options.work, size)
    rows = []
    for seed in size.seeds:
        trained = train_model(
            f"prompt-order-{store.sha256[:8]}-{seed}",
            store,
            options.work,
            {
                "seed": seed,
                "model": {"n_layer": size.n_layer, "n_embd": size.n_embd},
                "data": {"ctx_len": size.ctx_len, "batch_size": 16, "reset_at_documents": True},
                "training": {"steps": size.n_steps},
                "optimizer": {"lr": 1e-3},
                "schedule": {"kind": "cosine", "warmup_steps": 20, "final_lr": 1e-4},
                "every": {"validation_tokens": 4000},
            },
        )
        rows.append(_answered(load(trained.folder / "model"), size))
    return {
        "rows": rows,
        "n_test": size.n_test,
        "seeds": size.seeds,
        "n_layer": size.n_layer,
        "n_embd": size.n_embd,
        "n_train": size.n_train,
        "n_steps": size.n_steps,
        "store_sha256": store.sha256,
    }


def _store(work: Path, size: Size) -> TokenStore:
    """Return the training items, a word a token; only their answers count."""
    lines = [
        json.dumps({"prompt": each.prompt(ORDERS[index % 2]), "answer": f" {each.answer}"})
        for index, each in enumerate(training_items(size))
    ]
    text = "\n".join(lines) + "\n"
    digest = hashlib.sha256(f"{TOKENIZER}\n{text}".encode()).hexdigest()
    folder = work / "stores" / f"prompt-order-{digest[:8]}"
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".jsonl")
    with atomic_file(file) as staged:
        staged.write_text(text, encoding="utf-8")
    return prepare([file], TOKENIZER, folder)


def _answered(lm: LanguageModel, size: Size) -> dict[str, Any]:
    """Return the share of right answers by order and task, one for each number of facts."""
    found: dict[str, list[float]] = {}
    n_alike = 0
    for order in ORDERS:
        for task in TASKS:
            shares = []
            for n_facts in size.n_facts:
                items = measured_items(size.n_test, n_facts, task)
                given = [answer(lm, each, order) for each in items]
                right = [each.answer == one for each, one in zip(items, given, strict=True)]
                shares.append(statistics.fmean(right))
                n_alike += len(set(given)) == 1
            found[f"{order}, {task}"] = shares
    return {**found, "n_facts": list(size.n_facts), "n_alike": n_alike}


def answer(lm: LanguageModel, each: Item, order: str) -> str:
    """Return the likeliest of an item's choices; the prompt is read once for all of them."""
    tokens = list(lm.tokenizer.encode(each.prompt(order)))
    state = lm.prefill(tokens[:-1])
    return max(each.choices, key=lambda choice: sum(lm.score(tokens[-1:], f" {choice}", state)))


def section(found: dict[str, Any]) -> str:
    """Return the share of right answers in both orders, and what that says of the claim."""
    n_facts, n_test = found["rows"][0]["n_facts"], found["n_test"]
    rows, gaps = [], []
    for task in TASKS:
        for index, n in enumerate(n_facts):
            shares = [[row[f"{order}, {task}"][index] for row in found["rows"]] for order in ORDERS]
            alone = by_numbers_alone(measured_items(n_test, n, task))
            rows.append((f"{task}, {n} facts", *map(_shown, shares), f"{alone:.0%}", CHANCE[task]))
            _, most = interval(alone, n_test * len(found["rows"]))
            if max(map(statistics.fmean, shares)) > most:
                gaps.append(list(zip(*shares, strict=True)))
    head = ("task", *ORDERS, "by the numbers alone", "by chance")
    n_shares, n_alike = 2 * len(rows) * len(found["rows"]), _n_alike(found)
    alike = f" In {n_alike} of {n_shares} shares one answer was given to all items."
    low, high = interval(0.5, n_test)
    told = (
        f"{n_test} items a row and model; a share of a half is one of {low:.0%} to {high:.0%}. By "
        "the numbers alone: whose they are is not looked at; how many is the one most often in the "
        "text, and yes is said if the number is in it. "
        f"{_verdict(gaps, n_test, len(rows))}{alike if n_alike else ''}"
    )
    paper = [(name, *values) for name, values in PAPER.items()]
    table = markdown_table(
        ("the paper's, Raven-14B, %", "prompt made for GPT", "adapted prompt"), paper
    )
    return "\n\n".join([markdown_table(head, rows), told, table])


def _n_alike(found: dict[str, Any]) -> int:
    return sum(row["n_alike"] for row in found["rows"])


def _verdict(gaps: list[list[tuple[float, float]]], n_test: int, n: int) -> str:
    """Return whether the claim holds, by each model's gap and its 95% interval over the items.

    Args:
        gaps: Of each row in which a model is better than by the numbers alone, what share of right
            answers each model has with the question first, and with the text first.
        n_test: How many items there are in a row.
        n: How many rows there are.
    """
    if not gaps:
        return (
            f"In 0 of {n} rows a model is better than that: what they tell was not looked up, so "
            "of looking it up in either order nothing is shown."
        )
    n_items = n_test * len(gaps)
    told, signs = [], set()
    for shares in zip(*gaps, strict=True):
        gap = statistics.fmean(first - second for first, second in shares)
        variance = sum(each * (1 - each) for pair in shares for each in pair) / len(gaps)
        half = 1.96 * math.sqrt(variance / n_items)
        told.append(f"{100 * gap:+.1f} ± {100 * half:.1f}")
        signs.add(0 if abs(gap) <= half else math.copysign(1, gap))
    verdict = {
        (1,): "The claim holds here",
        (-1,): "Here it is the other way round",
        (0,): "No difference is shown",
    }.get(tuple(signs), "The models do not agree")
    return (
        f"Over the {len(gaps)} of {n} rows in which a model is better than that, question first "
        f"less text first is {', '.join(told)} points, model by model. {verdict}."
    )


def _shown(shares: list[float]) -> str:
    """Return the mean of the models, and of several their range."""
    mean = f"{statistics.fmean(shares):.0%}"
    return mean if len(shares) == 1 else f"{mean} ({min(shares):.0%} to {max(shares):.0%})"


def draw(found: dict[str, Any]) -> "Figure":
    """Draw the share of right answers by the number of facts, in both orders."""
    figure, axes = new_figure(2)
    for axis, task in zip(axes.flat, TASKS, strict=True):
        n_facts = found["rows"][0]["n_facts"]
        for order, colour in zip(ORDERS, COLOURS, strict=False):
            for row in found["rows"]:
                axis.plot(n_facts, row[f"{order}, {task}"], ".", color=colour)
            columns = zip(*(row[f"{order}, {task}"] for row in found["rows"]), strict=True)
            means = [statistics.fmean(each) for each in columns]
            style = "-" if order == ORDERS[0] else "--"  # one may lie on the other
            axis.plot(n_facts, means, style, color=colour, label=order)
        alone = [by_numbers_alone(measured_items(found["n_test"], n, task)) for n in n_facts]
        axis.plot(n_facts, alone, ":", color="#666666", label="by the numbers alone")
        axis.set_title(task)
        axis.set_xticks(n_facts)
        axis.set_ylim(0, 1.03)
        axis.set_xlabel("facts in the text")
        axis.set_ylabel("right answers, share")
        axis.legend(frameon=False)
    return figure


EXPERIMENT = Experiment(
    name="tables_6_7_prompt_order",
    title="Tables 6 and 7: the order of a prompt",
    claim=(
        "RWKV is more sensitive to the order of a prompt than a Transformer, as it cannot look "
        "back: with the question before the text it answers better (appendix L, tables 6 and 7: "
        "RTE from 44.2 to 74.8)."
    ),
    differs=(
        "The paper's tasks and its Raven-14B are not here. The items are made up: how many things "
        "one of several people has, or whether it is so many. The models are small, of a "
        "vocabulary in which each of the words is a token, and trained here on as many items of "
        "either order, so neither is new to them; what the order alone does is left. Whether it "
        "is more than with a Transformer is not measured. `--model` "
        "measures any model with a tokenizer instead, the published ones among them; the likeliest "
        "of the possible answers counts."
    ),
    measure=measure,
    section=section,
    draw=draw,
    takes_model=True,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))

"""Tables 6 and 7: whether the question comes before the text that it is about, or after it."""

import json
import random
import re
import statistics
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
THINGS = ("apples", "books", "coins", "dogs", "eggs", "figs")
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
    "small": Size((2, 4, 8), 40_000, 200, 4, 128, 4000, 256, (1, 2, 3)),
}


def item(draw: random.Random, task: str, n_facts: int) -> Item:
    """Return a made-up item: so many people, each with a number of things."""
    thing = draw.choice(THINGS)
    numbers = {name: draw.randrange(10) for name in draw.sample(NAMES, n_facts)}
    text = " ".join(f"{name} has {number} {thing}." for name, number in numbers.items())
    name = draw.choice(list(numbers))
    if task == "how many":
        question, choices = f"How many {thing} does {name} have?", DIGITS
        return Item(text, question, choices, str(numbers[name]))
    # As often right as wrong, whatever the numbers are.
    is_so = draw.random() < 0.5
    others = [number for number in range(10) if number != numbers[name]]
    asked = numbers[name] if is_so else draw.choice(others)
    return Item(text, f"Does {name} have {asked} {thing}?", YES_NO, YES_NO[is_so])


def measured_items(n: int, n_facts: int, task: str) -> list[Item]:
    """Return the `n` items that are measured; no training item is drawn by their seed."""
    draw = random.Random(f"test {task} {n_facts}")
    return [item(draw, task, n_facts) for _ in range(n)]


def by_numbers_alone(items: list[Item]) -> float:
    """Return the share of right answers of a reader who does not look whose a number is.

    Asked how many, it tells one of the text's numbers at random; asked whether it is so many, it
    says yes if that number stands in the text.
    """
    shares = []
    for each in items:
        numbers, asked = (re.findall(r"\d", part) for part in (each.text, each.question))
        if asked:
            shares.append(float(YES_NO[asked[0] in numbers] == each.answer))
        else:
            shares.append(numbers.count(each.answer) / len(numbers))
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
            f"prompt-order-{seed}",
            store,
            options.work,
            {
                "seed": seed,
                "model": {"n_layer": size.n_layer, "n_embd": size.n_embd},
                "data": {"ctx_len": size.ctx_len, "batch_size": 16, "reset_at_documents": True},
                "training": {"steps": size.n_steps},
                "optimizer": {"lr": 3e-3},
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
    """Return the training items by bytes; only their answers count."""
    folder = work / "stores" / "prompt-order"
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    draw = random.Random(1)
    lines = []
    for index in range(size.n_train):
        task, n_facts = TASKS[index // 2 % 2], size.n_facts[index // 4 % len(size.n_facts)]
        each = item(draw, task, n_facts)
        lines.append(
            json.dumps({"prompt": each.prompt(ORDERS[index % 2]), "answer": f" {each.answer}"})
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".jsonl")
    with atomic_file(file) as staged:
        staged.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return prepare([file], "bytes", folder)


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
    rows, gaps, n_learnt = [], [], 0
    for task in TASKS:
        for index, n in enumerate(n_facts):
            shares = [[row[f"{order}, {task}"][index] for row in found["rows"]] for order in ORDERS]
            alone = by_numbers_alone(measured_items(n_test, n, task))
            rows.append((f"{task}, {n} facts", *map(_shown, shares), f"{alone:.0%}", CHANCE[task]))
            _, most = interval(alone, n_test * len(found["rows"]))
            if max(map(statistics.fmean, shares)) > most:
                n_learnt += 1
                gaps += [a - b for a, b in zip(*shares, strict=True)]
    head = ("task", *ORDERS, "by the numbers alone", "by chance")
    n_shares, n_alike = 2 * len(rows) * len(found["rows"]), _n_alike(found)
    alike = f" In {n_alike} of {n_shares} shares one answer was given to all items."
    low, high = interval(0.5, n_test)
    told = (
        f"{n_test} items a row and model; a share of a half is one of {low:.0%} to {high:.0%}. By "
        "the numbers alone: whose they are is not looked at; how many is one of the text's at "
        "random, and yes is said if the number stands in the text. "
        f"{_verdict(gaps, n_learnt, len(rows))}{alike if n_alike else ''}"
    )
    paper = [(name, *values) for name, values in PAPER.items()]
    table = markdown_table(
        ("the paper's, Raven-14B, %", "prompt made for GPT", "adapted prompt"), paper
    )
    return "\n\n".join([markdown_table(head, rows), told, table])


def _n_alike(found: dict[str, Any]) -> int:
    return sum(row["n_alike"] for row in found["rows"])


def _verdict(gaps: list[float], n_learnt: int, n: int) -> str:
    """Return whether the claim holds, by the mean gap and its standard error over the cases."""
    if len(gaps) < 2:
        return (
            f"In {n_learnt} of {n} rows a model is better than that: what they tell was not looked "
            "up, so of looking it up in either order nothing is shown."
        )
    mean, error = statistics.fmean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
    if abs(mean) <= 2 * error:
        told = "within two standard errors of no difference: it shows nothing"
    else:
        told = "more than two standard errors. " + (
            "The claim holds here" if mean > 0 else "Here it is the other way round"
        )
    return (
        f"Over the {n_learnt} of {n} rows in which a model is better than that, question first "
        f"less text first is {mean:+.1%}, and above 0 in {sum(gap > 0 for gap in gaps)} of "
        f"{len(gaps)} cases; the standard error is {error:.1%}. That is {told}."
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
        "one of several people has, or whether it is so many. The models are small, of bytes, and "
        "trained here on as many items of either order, so neither is new to them; what the order "
        "alone does is left. `--model` measures any model with a tokenizer instead, the published "
        "ones among them; the likeliest of the possible answers counts."
    ),
    measure=measure,
    section=section,
    draw=draw,
    takes_model=True,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))

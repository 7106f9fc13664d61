"""Our model and a Transformer, trained alike and measured alike."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from paper.harness import Options
from paper.harness.places import costs_in_windows
from paper.harness.text import Text
from paper.harness.training import LAST_PART, run_config, smoothed, train_model
from paper.harness.transformer import (
    TransformerReader,
    matched_gpt_neox,
    n_parameters,
    score_in_windows,
    train_transformer,
)
from receptance.checkpoint import load_checkpoint
from receptance.data import TokenStore
from receptance.evaluation import Document, held_out_documents, score_documents
from receptance.evaluation.reading import Reader
from receptance.training import list_checkpoints

KINDS = {"rwkv4": "RWKV-4", "gpt-neox": "GPT-NeoX"}
N_CHECKS = 5
"""How many times a run both are measured."""
TOLERANCE = 0.02
"""By how much their numbers of parameters may differ, as a part of them."""
TOKENIZER = "train:1024"
TUNING_SEED = 1000
FIRST_PLACES = (1, 9, 33, 129)
"""At which parts of a window begin, for what the tokens in them cost."""


@dataclass(frozen=True)
class Size:
    """What both are trained with."""

    n_layer: int
    n_embd: int
    ctx_len: int
    batch_size: int
    steps: int
    tuning_steps: int
    n_seeds: int
    rates: tuple[float, ...]
    """The learning rates that are tried first, rising."""
    held_out_tokens: int
    """At most so many for the choice of the rate, and as many others for the figures."""


def hold(
    options: Options,
    text: Text,
    size: Size,
    *,
    name: str,
    rates: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Choose a learning rate for each kind, then train both with each seed.

    Args:
        options: Of the experiment.
        text: That both read and are measured by.
        size: Of both models and of what they read.
        name: Begins the names of all runs.
        rates: The learning rate of each kind, where it is not to be chosen.

    Raises:
        ValueError: If the two have not as many parameters.
    """
    store = text.store(options.work, TOKENIZER)
    documents = held_out_documents(store.valid, 2 * size.held_out_tokens)
    judging = documents[1::2] or documents
    contest = Contest(name, size, store, options, tuning=documents[0::2], judging=judging)
    tuning = [
        contest.tuned(kind) if rates is None else {"kind": kind, "tried": [], "chosen": rates[kind]}
        for kind in KINDS
    ]
    runs = [
        contest.run(each["kind"], f"seed-{seed}", seed, each["chosen"], size.steps, judging)
        for seed in range(1, size.n_seeds + 1)
        for each in tuning
    ]
    counts = {run["kind"]: run["parameters"] for run in runs}
    if abs(counts["gpt-neox"] / counts["rwkv4"] - 1) > TOLERANCE:
        raise ValueError(f"the models must have as many parameters, but they have {counts}")
    return {
        "text": text.entries(),
        **asdict(size),
        "vocab_size": store.vocab_size,
        "train_tokens": store.train.n_tokens,
        "judged_by_tokens": sum(len(each.tokens) for each in judging),
        "parameters": counts,
        "tuning": tuning,
        "runs": runs,
    }


Curves = tuple[list[float], list[tuple[int, float]], dict[str, Any]]
"""The loss of each step, what held-out text cost after some, and what else was found."""


@dataclass(frozen=True)
class Contest:
    """What all runs share: the sizes, the text, and where they lie."""

    name: str
    """Begins the names of all runs."""
    size: Size
    store: TokenStore
    options: Options
    tuning: list[Document]
    """By which the learning rate is chosen."""
    judging: list[Document]
    """By which the models are compared."""

    def settings(self, seed: int, lr: float, steps: int) -> dict[str, Any]:
        """Return a run's settings, which both kinds obey."""
        size, check = self.size, max(steps // N_CHECKS, 1)
        return {
            "seed": seed,
            "model": {"n_layer": size.n_layer, "n_embd": size.n_embd},
            "data": {"ctx_len": size.ctx_len, "batch_size": size.batch_size},
            "training": {"steps": steps, "auxiliary_loss": 0.0},
            "optimizer": {"lr": lr},
            "schedule": {"kind": "cosine", "warmup_steps": steps // 20, "final_lr": lr / 20},
            "every": {"checkpoint_steps": check, "keep_every": check, "validation_steps": 0},
            # Each step is taken, for a loop without the judge of steps takes each.
            "spikes": {"loss_deviations": 0.0, "grad_norm_ratio": 0.0},
        }

    def bits_per_byte(self, reader: Reader, documents: list[Document]) -> float:
        """Return what held-out documents cost in windows of the training's context."""
        score = score_in_windows(
            reader, documents, end_of_text=self.store.end_of_text, window=self.size.ctx_len
        )
        return score.bits_per_byte

    def tuned(self, kind: str) -> dict[str, Any]:
        """Return the learning rate that is best for a kind in shorter runs, and all tried."""

        def cost(lr: float) -> float:
            name, steps = f"tuning-{lr:.2e}", self.size.tuning_steps
            run = self.run(kind, name, TUNING_SEED, lr, steps, self.tuning)
            return run["bits_per_byte"]

        tried = tune(self.size.rates, cost)
        return {"kind": kind, "tried": tried, "chosen": min(tried, key=lambda each: each[1])[0]}

    def by_place(self, reader: Reader, documents: list[Document]) -> list[dict[str, Any]]:
        """Return what tokens cost by their place in windows that begin with nothing before."""
        end_of_text, window = self.store.end_of_text, self.size.ctx_len
        costs = costs_in_windows(reader, documents, end_of_text=end_of_text, window=window)
        firsts = [first for first in FIRST_PLACES if first <= window]
        lasts = [*(first - 1 for first in firsts[1:]), window]
        return [
            {"first": first, "last": last, "nats": float(costs[first - 1 : last].mean())}
            for first, last in zip(firsts, lasts, strict=True)
        ]

    def run(
        self, kind: str, name: str, seed: int, lr: float, steps: int, documents: list[Document]
    ) -> dict[str, Any]:
        """Train one model, and return its curves; `documents` are what it is measured by."""
        settings, name = self.settings(seed, lr, steps), f"{self.name}-{kind}-{name}"
        train = self._rwkv4 if kind == "rwkv4" else self._gpt_neox
        losses, valid, found = train(name, settings, documents)
        curve = smoothed(list(range(1, steps + 1)), losses)
        return {
            "kind": kind,
            "seed": seed,
            "lr": lr,
            **found,
            "steps": curve[0],
            "losses": curve[1],
            "last_loss": statistics.fmean(losses[-max(int(LAST_PART * steps), 1) :]),
            "valid": valid,
            "bits_per_byte": valid[-1][1],
        }

    def _rwkv4(self, name: str, settings: dict[str, Any], documents: list[Document]) -> Curves:
        """Train ours by the package's trainer, and measure what it kept on the way."""
        trained = train_model(name, self.store, self.options.work, settings)
        valid = []
        for folder in list_checkpoints(trained.folder / "checkpoints"):
            reader = Reader(load_checkpoint(folder / "model").model)
            step = int(folder.name.removeprefix("step-"))
            valid.append((step, self.bits_per_byte(reader, documents)))
        model = trained.model
        carried = score_documents(model, documents, end_of_text=self.store.end_of_text)
        found = {
            "parameters": n_parameters(model),
            "bits_per_byte_carried": carried.bits_per_byte,
            "by_place": self.by_place(Reader(model), documents),
        }
        return trained.losses, valid, found

    def _gpt_neox(self, name: str, settings: dict[str, Any], documents: list[Document]) -> Curves:
        """Train the Transformer by the same settings."""
        size, V = self.size, self.store.vocab_size
        model = matched_gpt_neox(size.n_layer, size.n_embd, V, size.ctx_len, settings["seed"])
        trained = train_transformer(
            run_config(name, self.store, settings),
            self.store,
            model,
            self.options.work / "runs" / name,
            validate=lambda model: self.bits_per_byte(TransformerReader(model), documents),
        )
        found = {
            "parameters": n_parameters(model),
            "by_place": self.by_place(TransformerReader(trained.model), documents),
        }
        return trained.losses, trained.valid, found


def tune(rates: tuple[float, ...], measured: Callable[[float], float]) -> list[tuple[float, float]]:
    """Return rates with what each costs; the best is not at an edge, or four more were tried.

    Args:
        rates: Those to begin with, rising by a constant factor; more are tried beyond an edge.
        measured: Returns the cost of one.
    """
    factor = rates[1] / rates[0]
    found = {rate: measured(rate) for rate in rates}
    for _ in range(4):
        best = min(found, key=found.__getitem__)
        if best == min(found):
            further = best / factor
        elif best == max(found):
            further = best * factor
        else:
            break
        found[further] = measured(further)
    return sorted(found.items())

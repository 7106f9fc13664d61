"""What one step of a run sees, by the arithmetic that trains it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from receptance.cli.masked_text import LEGEND, Run, bracketed, runs
from receptance.cli.terminal import printable
from receptance.errors import ConfigError, DataError

if TYPE_CHECKING:
    from receptance.data import Batch, Split, TokenStore
    from receptance.training import RunConfig


def view_step(store: "TokenStore | None", run: Path, step: int) -> dict[str, Any]:
    """Return what a step of a run reads, sample by sample, as JSON can hold it.

    Args:
        store: The run's only token store, wherever it lies; None for the stores where the run says.
        run: A run's TOML file, or its folder.
        step: Counted from 0.

    Raises:
        ConfigError: If there is no such run, it has fewer steps, or it has several sources and one
            store is given.
        DataError: If a store is not the run's, or the run's own past decides what it sees.
    """
    from receptance.cli.run_data import open_stores, run_batches, with_stores
    from receptance.training import plan_step, read_config, samples_before

    config = read_config(run / "config.toml" if run.is_dir() else run)
    if store is not None and config.data.sources:
        raise ConfigError(
            f"the run at {str(run)!r} mixes {list(config.data.stores)}, so no store must be given "
            f"beside it, but {str(store.path)!r} is; leave it out"
        )
    stores = open_stores(config) if store is None else {"": store}
    config = with_stores(config, stores)
    if step >= config.training.steps:
        raise ConfigError(
            f"the step must be below {config.training.steps}, the steps of {str(run)!r}, counted "
            f"from 0, but it is {step}; name an earlier one"
        )
    _refuse_rolled_back(run, step)
    data, plan = config.data, plan_step(config, step)
    batches = run_batches(stores, config)
    first_sample = samples_before(data, step)
    batch = batches.batch(first_sample, plan.batch_size, plan.segment)
    samples = []
    for row, place in enumerate(batches.samples(first_sample, plan.batch_size)):
        origin = {"sample": first_sample + row, **place._asdict()}
        its_store = stores[origin.get("source", "")]
        begin = (place.first_token + plan.segment * data.ctx_len) % its_store.train.n_tokens
        samples.append(
            {
                **origin,
                "first_token": begin,
                **_row(batch, row, reset_at_documents=data.reset_at_documents),
                "documents": _documents(its_store, begin, batch, row),
            }
        )
    return _head(config, step) | {"samples": samples}


def step_lines(view: dict[str, Any], n_samples: int) -> list[str]:
    """Return what `view_step` found, for people, and the text of the first samples."""
    samples = view["samples"]
    lines = [
        f"step {view['step']:,} of {view['steps']:,}, counted from 0: {len(samples)} samples of "
        f"{view['ctx_len']:,} tokens, order {view['order']!r}, seed {view['seed']}",
    ]
    if view["segments"] > 1:
        state = "the state goes on" if view["segment"] else "the state is zero"
        lines.append(f"segment {view['segment']} of {view['segments']}: {state}")
    for sample in samples[:n_samples]:
        place = "sample {sample:,}: epoch {epoch}, tokens from {first_token:,} on".format(**sample)
        if "source" in sample:
            place += printable(", of {source}, its sample {place:,}".format(**sample))
        lines += ["", place + _resets(view, sample)]
        for document in sample["documents"]:
            lines.append(
                "document {document:,}, tokens {first_token:,} to {last_token:,}{end}:".format(
                    **document, end=", its end" if document["ends"] else ""
                )
            )
            lines.append(printable(_marked(document)))
    if any("counted" in sample for sample in samples[:n_samples]):
        lines += ["", LEGEND]
    if n_samples < len(samples):
        lines += ["", f"and {len(samples) - n_samples} more samples; --samples shows them"]
    return lines


def _head(config: "RunConfig", step: int) -> dict[str, Any]:
    """Return what is so for all samples of a step."""
    return {
        "step": step,
        "steps": config.training.steps,
        "ctx_len": config.data.ctx_len,
        "segment": step % config.data.segments,
        "segments": config.data.segments,
        "seed": config.seed,
        "order": config.data.order,
        "reset_at_documents": config.data.reset_at_documents,
    }


def _row(batch: "Batch", row: int, *, reset_at_documents: bool) -> dict[str, Any]:
    """Return the tokens of a row, and where its state is zero and what of it counts."""
    resets = batch.resets[row].nonzero().flatten().tolist() if reset_at_documents else []
    found: dict[str, Any] = {
        "resets": resets,
        "tokens": batch.tokens[row].tolist(),
        "next_token": int(batch.targets[row, -1]),
    }
    if batch.counted is not None:
        # Of the targets: the tokens from the second on, and the next one.
        found["counted"] = batch.counted[row].int().tolist()
    return found


def _marked(document: dict[str, Any]) -> str:
    """Return the text of a stretch, what is not to be predicted in brackets."""
    if "runs" not in document:
        return document["text"]
    return bracketed([Run(**run) for run in document["runs"]])


def _resets(view: dict[str, Any], sample: dict[str, Any]) -> str:
    if not view["reset_at_documents"]:
        return "; documents read on from one another"
    places = ", ".join(map(str, sample["resets"]))
    return f"; the state is zero before its tokens {places}" if places else "; no reset in it"


def _documents(store: "TokenStore", begin: int, batch: "Batch", row: int) -> list[dict[str, Any]]:
    """Return the stretches of documents that a row of tokens is made of, in their order."""
    tokens = batch.tokens[row].tolist()
    # A target is the token after its place, so the first token is never one.
    mask = None if batch.counted is None else [0, *batch.counted[row, :-1].int().tolist()]
    split, found, at = store.train, [], 0
    while at < len(tokens):
        place = (begin + at) % split.n_tokens
        document, after = _document_at(split, place)
        n = min(after - place, len(tokens) - at)
        ends = place + n == after
        # The last token of a document is the `end_of_text` that follows its text.
        text = tokens[at : at + n - ends]
        stretch = {
            "document": document,
            "first_token": place,
            "last_token": place + n - 1,
            "ends": ends,
            "text": store.tokenizer.decode(text),
        }
        if mask is not None:
            parts = runs(store.tokenizer, text, mask[at : at + len(text)])
            stretch["runs"] = [part._asdict() for part in parts]
        found.append(stretch)
        at += n
    return found


def _document_at(split: "Split", place: int) -> tuple[int, int]:
    """Return which document a token belongs to, and the place after that document's last one."""
    # The table lies on the disk and is sorted: it is searched without being read through.
    document = int(split.documents[:, 0].searchsorted(place, side="right")) - 1
    is_last = document == split.n_documents - 1
    return document, split.n_tokens if is_last else int(split.documents[document + 1, 0])


def _refuse_rolled_back(run: Path, step: int) -> None:
    """Raise where the run passed samples over, so that its settings no longer tell the rest."""
    from receptance.training import METRICS_FILE, read_metrics

    path = run / METRICS_FILE
    if not run.is_dir() or not path.is_file():
        return
    for line in read_metrics(path):
        if "rolled_back_from" in line and line["step"] <= step + 1:
            raise DataError(
                f"the step must be below {line['step'] - 1}, before which {str(run)!r} went back "
                f"over a spike of the loss and on with other samples, but it is {step}; name an "
                "earlier step, or the run's TOML file for what it would have seen without"
            )

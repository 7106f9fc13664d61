"""What one step of a run sees, by the arithmetic that trains it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from receptance.cli.terminal import printable
from receptance.errors import ConfigError, DataError

if TYPE_CHECKING:
    from receptance.data import Split, TokenStore
    from receptance.training import RunConfig


def view_step(store: "TokenStore", run: Path, step: int) -> dict[str, Any]:
    """Return what a step of a run reads, sample by sample, as JSON can hold it.

    Args:
        store: The run's token store, wherever it lies.
        run: A run's TOML file, or its folder.
        step: Counted from 0.

    Raises:
        ConfigError: If there is no such run, or it has fewer steps.
        DataError: If the store is not the run's, or the run's own past decides what it sees.
    """
    from receptance.cli.training_run import store_batches, with_store
    from receptance.training import plan_step, read_config, samples_before

    config = with_store(read_config(run / "config.toml" if run.is_dir() else run), store)
    if step >= config.training.steps:
        raise ConfigError(
            f"the step must be below {config.training.steps}, the steps of {str(run)!r}, counted "
            f"from 0, but it is {step}; name an earlier one"
        )
    _refuse_rolled_back(run, step)
    data, plan = config.data, plan_step(config, step)
    batches = store_batches(store, config)
    first_sample = samples_before(data, step)
    batch = batches.batch(first_sample, plan.batch_size, plan.segment)
    places = batches.samples(first_sample, plan.batch_size)
    samples = []
    for row, place in enumerate(places):
        begin = (place.first_token + plan.segment * data.ctx_len) % store.train.n_tokens
        tokens = batch.tokens[row].tolist()
        samples.append(
            {
                "sample": first_sample + row,
                "epoch": place.epoch,
                "first_token": begin,
                "resets": batch.resets[row].nonzero().flatten().tolist()
                if data.reset_at_documents
                else [],
                "tokens": tokens,
                "next_token": int(batch.targets[row, -1]),
                "documents": _documents(store, begin, tokens),
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
        lines += ["", place + _resets(view, sample)]
        for document in sample["documents"]:
            lines.append(
                "document {document:,}, tokens {first_token:,} to {last_token:,}{end}:".format(
                    **document, end=", its end" if document["ends"] else ""
                )
            )
            lines.append(printable(document["text"]))
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


def _resets(view: dict[str, Any], sample: dict[str, Any]) -> str:
    if not view["reset_at_documents"]:
        return "; documents read on from one another"
    places = ", ".join(map(str, sample["resets"]))
    return f"; the state is zero before its tokens {places}" if places else "; no reset in it"


def _documents(store: "TokenStore", begin: int, tokens: list[int]) -> list[dict[str, Any]]:
    """Return the stretches of documents that a row of tokens is made of, in their order."""
    split, found, row = store.train, [], 0
    while row < len(tokens):
        place = (begin + row) % split.n_tokens
        document, after = _document_at(split, place)
        n = min(after - place, len(tokens) - row)
        ends = place + n == after
        # The last token of a document is the `end_of_text` that follows its text.
        text = tokens[row : row + n - ends]
        found.append(
            {
                "document": document,
                "first_token": place,
                "last_token": place + n - 1,
                "ends": ends,
                "text": store.tokenizer.decode(text),
            }
        )
        row += n
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

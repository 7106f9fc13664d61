"""`receptance data`: text into a token store, and a look into one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.chat_format import CHAT_FORMATS
from receptance.cli.masked_text import LEGEND, Run, bracketed, runs
from receptance.cli.progress import progress_bar
from receptance.cli.terminal import printable

if TYPE_CHECKING:
    from receptance.data import Batches, TokenStore

MAX_SOURCES = 20
"""How many sources the table shows."""


@click.group()
def command() -> None:
    """Turn text into a token store, or look into one."""


@command.command(
    name="prepare",
    epilog="WikiText, for instance: receptance data prepare wiki.train.tokens --valid "
    "wiki.valid.tokens --document-start ' = [^=].* = $' --tokenizer train:4096 --out wikitext",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tokenizer",
    required=True,
    metavar="bytes|train:SIZE|PATH",
    help="Raw bytes; a byte-level BPE of SIZE ids, trained on these texts; or a tokenizer's file.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to make.")
@click.option(
    "--valid",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder to hold out; may be given again.",
)
@click.option(
    "--valid-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.02,
    show_default=True,
    help="Without --valid, the share of documents to hold out, chosen by their text.",
)
@click.option(
    "--separator",
    help=r"The text between two documents of a file; \n and \t are understood.",
)
@click.option(
    "--document-start",
    metavar="REGEX",
    help="What the first line of each document of a file matches.",
)
@click.option(
    "--text-field",
    metavar="FIELD",
    help="Of .jsonl files and tables: the field of the text.  [default: told from the fields]",
)
@click.option("--prompt-field", metavar="FIELD", help="The field of the prompt, as it stands.")
@click.option("--answer-field", metavar="FIELD", help="The field of the answer to it.")
@click.option(
    "--chat-format",
    type=click.Choice(list(CHAT_FORMATS)),
    help="How chats are written (User and Assistant, Bob and Alice, Question and Answer), and then "
    "prompts too.  [default: world for chats]",
)
@click.option(
    "--loss-on",
    type=click.Choice(["answer", "all"]),
    default="answer",
    show_default=True,
    help="What is to be predicted of pairs and chats; of texts it is all.",
)
@click.option(
    "--glob",
    "globs",
    multiple=True,
    metavar="PATTERN",
    help="Which files of folders to take, such as '*.py'; may be given again.",
)
@click.option("--skip-undecodable", is_flag=True, help="Skip files that are not UTF-8 text.")
@click.option("--seed", default=0, show_default=True, help="What the held-out choice depends on.")
@click.option("--replace", is_flag=True, help="Replace a token store at --out.")
def prepare_command(files: tuple[Path, ...], separator: str | None, **options: Any) -> None:
    """Tokenize text FILES, and folders of them, into a new token store.

    Each file is one document, plain UTF-8 or .gz, unless --separator or --document-start splits
    it. Of a .jsonl file each line is one, and of a .parquet or .arrow file each row: a text, a
    prompt with its answer, or a chat.
    """
    from receptance.data import RecordFormat, prepare

    fields = ("text_field", "prompt_field", "answer_field", "chat_format", "loss_on")
    record_options = {name: options.pop(name) for name in fields}
    if separator is not None:
        separator = separator.replace(r"\n", "\n").replace(r"\t", "\t")
    with progress_bar("tokenizing") as progress:
        try:
            records = RecordFormat(**record_options)
            store = prepare(
                files, separator=separator, records=records, progress=progress, **options
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    click.echo(_table(store), err=True)


@command.command(name="inspect")
@click.argument("path", metavar="STORE", type=click.Path(path_type=Path))
@click.option(
    "--samples",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="How many samples to show.",
)
@click.option(
    "--ctx-len", type=click.IntRange(1), help="Tokens a sample.  [default: 128, if there are]"
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seed", default=0, show_default=True, help="The seed of the order.")
@click.option(
    "--step", type=click.IntRange(0), default=0, show_default=True, help="Which step's samples."
)
@click.option("--verify", is_flag=True, help="Read every byte and compare it with its hash.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def inspect_command(
    path: Path,
    samples: int,
    ctx_len: int | None,
    batch_size: int,
    seed: int,
    step: int,
    verify: bool,
    as_json: bool,
) -> None:
    """Show what a token STORE holds, and the samples that a training step sees."""
    from receptance.data import Batches, TokenStore

    store = TokenStore.open(path)
    if verify:
        with progress_bar("verifying") as progress:
            store.verify(progress)
    ctx_len = ctx_len or max(1, min(128, store.train.n_tokens - 1))
    batches = Batches(
        store.train,
        ctx_len=ctx_len,
        seed=seed,
        end_of_text=store.end_of_text,
        vocab_size=store.vocab_size,
    )
    shown = _samples(store, batches, step * batch_size, min(samples, batch_size))
    if as_json:
        content = _summary(store) | {"verified": verify, "step": step, "samples": shown}
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(_table(store))
    if verify:
        click.echo("\nverified   every byte has the hash that store.json gives")
    has_mask = store.train.mask is not None
    for sample in shown:
        place = "epoch {epoch}, first token {first_token}".format(**sample)
        text = bracketed([Run(**run) for run in sample["runs"]]) if has_mask else sample["text"]
        click.echo(f"\nstep {step}, {place}, {ctx_len} tokens:\n{printable(text)}")
    if shown and has_mask:
        click.echo(f"\n{LEGEND}")


def _samples(
    store: "TokenStore", batches: "Batches", first_sample: int, n: int
) -> list[dict[str, Any]]:
    """Return `n` samples from a place on, decoded."""
    if n == 0:
        return []
    tokens = batches.batch(first_sample, n).tokens.tolist()
    shown: list[dict[str, Any]] = []
    for sample, row in zip(batches.samples(first_sample, n), tokens, strict=True):
        entry = {**sample._asdict(), "text": store.tokenizer.decode(row)}
        if store.train.mask is not None:
            places = range(sample.first_token, sample.first_token + len(row))
            mask = store.train.mask.take(places, mode="wrap").tolist()
            entry["runs"] = [run._asdict() for run in runs(store.tokenizer, row, mask)]
        shown.append(entry)
    return shown


def _summary(store: "TokenStore") -> dict[str, Any]:
    """Return what `store.json` says, without the hashes of blocks, and bytes per token."""
    from receptance.data.manifest import manifest_entries

    summary = {"path": str(store.path), **manifest_entries(store.manifest)}
    for split in summary["splits"].values():
        del split["sha256"], split["documents_sha256"]
        if "mask" in split:
            del split["mask"]["sha256"]
        split["bytes_per_token"] = split["bytes"] / split["tokens"] if split["tokens"] else None
    return summary


def _table(store: "TokenStore") -> str:
    """Return what a store holds, for people."""
    manifest = store.manifest
    lines = [
        f"store      {printable(str(store.path))}",
        f"tokenizer  {manifest.tokenizer}, {manifest.vocab_size:,} ids, "
        f"sha256 {manifest.tokenizer_sha256[:16]}…",
        f"dtype      {manifest.dtype}",
        "",
        f"{'split':<7}{'documents':>12}{'bytes':>18}{'tokens':>18}{'bytes/token':>13}",
    ]
    for name, split in (("train", store.train), ("valid", store.valid)):
        ratio = f"{split.n_bytes / split.n_tokens:.3f}" if split.n_tokens else "-"
        lines.append(
            f"{name:<7}{split.n_documents:>12,}{split.n_bytes:>18,}{split.n_tokens:>18,}{ratio:>13}"
        )
    for name, split in (("train", manifest.splits.train), ("valid", manifest.splits.valid)):
        if split.mask is not None and split.tokens:
            lines.append(
                f"{name:<7}{'to predict':>12}{split.mask.bytes:>18,}{split.mask.tokens:>18,}"
                f"{split.mask.tokens / split.tokens:>13.1%}"
            )
    lines += ["", f"{'files':>7}{'documents':>12}{'bytes':>18}  source"]
    for source in manifest.sources[:MAX_SOURCES]:
        notes = ["held out"] * source.held_out
        if source.blank_documents:
            notes.append(f"{source.blank_documents:,} blank documents skipped")
        if source.undecodable_files:
            notes.append(f"{source.undecodable_files:,} files skipped that are not UTF-8")
        note = f" ({', '.join(notes)})" if notes else ""
        lines.append(
            f"{source.files:>7,}{source.documents:>12,}{source.bytes:>18,}"
            f"  {printable(source.path)}{note}"
        )
    if len(manifest.sources) > MAX_SOURCES:
        lines.append(f"{'':>39}and {len(manifest.sources) - MAX_SOURCES:,} more; --json has all")
    return "\n".join(lines)

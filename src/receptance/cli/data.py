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
@click.option(
    "--restart",
    is_flag=True,
    help="Begin anew where preparing was interrupted, instead of going on there.",
)
def prepare_command(files: tuple[Path, ...], separator: str | None, **options: Any) -> None:
    """Tokenize text FILES, and folders of them, into a new token store.

    Each file is one document, plain UTF-8 or .gz, unless --separator or --document-start splits
    it. Of a .jsonl file each line is one, and of a .parquet or .arrow file each row: a text, a
    prompt with its answer, or a chat. hf://datasets/OWNER/NAME is a data set of the Hugging Face
    hub, perhaps with @REVISION and a /FOLDER or /FILE after it. Or the FILES are .idx of Megatron
    and RWKV-LM, each with its .bin beside it, whose tokens --tokenizer made: they are copied, with
    --valid-fraction 0 as one stream in their order.
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
@click.argument("path", metavar="[STORE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--run",
    metavar="RUN.toml|FOLDER",
    type=click.Path(path_type=Path),
    help="Show what a step of this run sees, in place of the four options below.",
)
@click.option(
    "--samples",
    type=click.IntRange(0),
    help="How many samples to show.  [default: 2; with --run all of the step]",
)
@click.option(
    "--ctx-len", type=click.IntRange(1), help="Tokens a sample.  [default: 128, if there are]"
)
@click.option("--batch-size", type=click.IntRange(1), help="Samples a step.  [default: 8]")
@click.option("--seed", type=int, help="The seed of the order.  [default: 0]")
@click.option(
    "--step",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which step's samples, counted from 0.",
)
@click.option("--verify", is_flag=True, help="Read every byte and compare it with its hash.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def inspect_command(
    path: Path | None,
    run: Path | None,
    samples: int | None,
    step: int,
    verify: bool,
    as_json: bool,
    **order: int | None,
) -> None:
    """Show what a token STORE holds, and the samples that a training step sees.

    With --run they are exactly those of that run: its context length, its batch sizes, its seed
    and its order. STORE may then be left out, for those that the run names; where it mixes several
    sources it must be, and each sample is shown with its source.
    """
    from receptance.data import TokenStore

    given = ["--" + name.replace("_", "-") for name, value in order.items() if value is not None]
    if run is not None and given:
        raise click.UsageError(f"--run decides what a step sees, so {given[0]} must not be given")
    if path is None and (run is None or verify):
        raise click.UsageError("STORE must be given" + (" with --verify" if verify else ""))
    store = None if path is None else TokenStore.open(path)
    if store is not None and verify:
        with progress_bar("verifying") as progress:
            store.verify(progress)
    if run is not None:
        from receptance.cli.step_view import step_lines, view_step

        view = view_step(store, run, step)
        n_shown = len(view["samples"]) if samples is None else samples
        lines = step_lines(view, n_shown)
        view["samples"] = view["samples"][:n_shown]
    else:
        assert store is not None  # as was checked above
        view, lines = _any_step(store, step, 2 if samples is None else samples, **order)
    if as_json:
        summary = {} if store is None else _summary(store) | {"verified": verify}
        click.echo(json.dumps(summary | view, indent=2))
        return
    if store is not None:
        click.echo(_table(store))
        if verify:
            click.echo("\nverified   every byte has the hash that store.json gives")
        lines = ["", *lines] if run is not None else lines
    for line in lines:
        click.echo(line)


def _any_step(
    store: "TokenStore",
    step: int,
    n_samples: int,
    *,
    ctx_len: int | None,
    batch_size: int | None,
    seed: int | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the first samples of a step of no run in particular, for JSON and for people."""
    from receptance.data import Batches

    ctx_len = ctx_len or max(1, min(128, store.train.n_tokens - 1))
    batch_size = batch_size or 8
    batches = Batches(
        store.train,
        ctx_len=ctx_len,
        seed=seed or 0,
        end_of_text=store.end_of_text,
        vocab_size=store.vocab_size,
    )
    shown = _samples(store, batches, step * batch_size, min(n_samples, batch_size))
    has_mask = store.train.mask is not None
    lines: list[str] = []
    for sample in shown:
        place = "epoch {epoch}, first token {first_token}".format(**sample)
        text = bracketed([Run(**run) for run in sample["runs"]]) if has_mask else sample["text"]
        lines.append(f"\nstep {step}, {place}, {ctx_len} tokens:\n{printable(text)}")
    if shown and has_mask:
        lines.append(f"\n{LEGEND}")
    return {"step": step, "samples": shown}, lines


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

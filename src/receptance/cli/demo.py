"""`receptance demo`: the whole way, from text to a model that writes, in a few minutes."""

import gzip
import lzma
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receptance.cli.invocation import command_line

if TYPE_CHECKING:
    from receptance.cli.training_run import Outcome
    from receptance.data import Corpus, TokenStore
    from receptance.training import RunConfig

PROMPT = "class Stack:\n    def __init__(self"


@click.command()
@click.option(
    "--folder",
    default=Path("runs", "demo"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the tokens, the run and the model go.",
)
def command(folder: Path) -> None:
    """Train a small RWKV-4 on the source of Python's standard library and let it write.

    Forty whole files are held out. What the model needs to store them is set beside gzip and xz.
    Interrupted, the same command goes on where it was.
    """
    from receptance.cli.training_run import EXIT_RESUMABLE
    from receptance.data import standard_library

    outcome = run_demo(standard_library(), demo_config(folder / "tokens"), folder)
    if not outcome.is_finished:
        again = command_line("demo", "--folder", str(folder))
        _say(f"stopped after step {outcome.step:,}; go on with: {again}")
        sys.exit(EXIT_RESUMABLE)


def run_demo(
    corpus: "Corpus", config: "RunConfig", folder: Path, *, vocab_size: int = 4096
) -> "Outcome":
    """Tokenize `corpus`, train as `config` says, and report; what is there already is kept."""
    from receptance.cli.training_run import run_training

    store = _tokens(corpus, folder / "tokens", vocab_size)
    _say(
        f"training an RWKV-4 on {store.train.n_tokens:,} tokens of {store.train.n_documents} files"
    )
    outcome = run_training(config, folder, resume="auto")
    if outcome.is_finished:
        _report(outcome.model_folder, store)
    return outcome


def demo_config(store: Path) -> "RunConfig":
    """Return the demo's run, from its recipe."""
    from receptance.training import read_config

    return read_config(Path(__file__).with_name("demo.toml"), [f"data.store={store}"])


def _tokens(corpus: "Corpus", folder: Path, vocab_size: int) -> "TokenStore":
    from receptance.data import TokenStore, prepare

    if (folder / "store.json").exists():
        return TokenStore.open(folder)
    _say(f"training a tokenizer of {vocab_size:,} tokens on Python's standard library")
    return prepare(corpus.train, f"train:{vocab_size}", folder, valid=corpus.held_out)


def _report(model_folder: Path, store: "TokenStore") -> None:
    """Print the held-out figures, a few lines of Python and what to try next."""
    from receptance.evaluation import held_out_documents, score_documents
    from receptance.inference import load

    lm = load(model_folder)
    held_out = held_out_documents(store.valid)
    score = score_documents(lm.model, held_out, end_of_text=store.end_of_text)
    rows = {
        **_compressed(store),
        f"RWKV-4 of {lm.model.config.n_parameters / 1e6:.1f} M": score.bits_per_byte,
    }
    n_files, n_bytes = store.valid.n_documents, store.valid.n_bytes
    click.echo(f"\nbits per byte of {n_files} files that it never saw ({n_bytes:,} bytes):")
    for name, bits in rows.items():
        click.echo(f"  {name:<32} {bits:.3f}")

    written = lm.generate(PROMPT, max_tokens=110, temperature=0.5, seed=1)
    click.echo(f"\nit writes:\n\n{PROMPT}{written.text}\n")
    commands = (
        ["generate", str(model_folder), "class Queue:", "--max-tokens", "200"],
        ["data", "inspect", str(store.path)],
        ["train", "--help"],
    )
    click.echo("next:")
    for each in commands:
        click.echo(f"  {command_line(*each)}")


def _compressed(store: "TokenStore") -> dict[str, float]:
    """Return the bits per byte that gzip and xz need for the held-out files.

    The model has read the training text, which a compressor of one file has not. So xz is also
    given it first, and what the held-out files then add is counted.
    """
    train, held_out = (
        [store.tokenizer.decode_bytes(split.document(i).tolist()) for i in range(split.n_documents)]
        for split in (store.train, store.valid)
    )
    read = b"".join(train)
    added = len(_xz(read + b"".join(held_out))) - len(_xz(read))
    bits = 8 / store.valid.n_bytes
    return {
        "gzip -9, each file alone": bits * sum(len(gzip.compress(text, 9)) for text in held_out),
        "xz -9, each file alone": bits * sum(len(_xz(text)) for text in held_out),
        "xz -9, after the training text": bits * added,
    }


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=9)


def _say(text: str) -> None:
    click.echo(text, err=True)

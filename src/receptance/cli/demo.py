"""`receptance demo`: the whole way, from text to a model that writes, in a few minutes."""

import gzip
import lzma
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from receptance.data import Corpus, TokenStore
    from receptance.training import RunConfig

PROMPT = "def read_lines(path):\n"


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
    from receptance.cli.training_run import EXIT_RESUMABLE, run_training
    from receptance.data import standard_library

    corpus = standard_library()
    store = _tokens(corpus, folder / "tokens")
    config = demo_config(folder / "tokens")
    _say(
        f"training an RWKV-4 on {store.train.n_tokens:,} tokens of "
        f"{store.train.n_documents} files; about three minutes on two cores with bfloat16"
    )
    outcome = run_training(config, folder, resume="auto")
    if not outcome.is_finished:
        again = "" if folder == Path("runs", "demo") else f" --folder {folder}"
        _say(f"stopped after step {outcome.step:,}; go on with: receptance demo{again}")
        sys.exit(EXIT_RESUMABLE)
    _report(outcome.model_folder, store, corpus)


def demo_config(store: Path) -> "RunConfig":
    """Return the demo's run, from its recipe."""
    from receptance.training import read_config

    return read_config(Path(__file__).with_name("demo.toml"), [f"data.store={store}"])


def _tokens(corpus: "Corpus", folder: Path) -> "TokenStore":
    from receptance.data import TokenStore, prepare

    if (folder / "store.json").exists():
        return TokenStore.open(folder)
    _say("training a tokenizer of 4,096 words and tokenizing the standard library")
    return prepare(corpus.train, "train:4096", folder, valid=corpus.held_out)


def _report(model_folder: Path, store: "TokenStore", corpus: "Corpus") -> None:
    """Print the held-out figures, a few lines of Python and what to try next."""
    from receptance.evaluation import score_documents
    from receptance.inference import load

    lm = load(model_folder)
    score = score_documents(lm.model, store.valid, end_of_text=store.end_of_text)
    texts = [path.read_bytes() for path in corpus.held_out]
    n_bytes = sum(len(text) for text in texts)
    rows = {
        "gzip -9": 8 * sum(len(gzip.compress(text, 9)) for text in texts) / n_bytes,
        "xz -9": 8 * sum(len(lzma.compress(text, preset=9)) for text in texts) / n_bytes,
        f"RWKV-4 of {lm.model.config.n_parameters / 1e6:.1f} M": score.bits_per_byte,
    }
    click.echo(f"\nbits per byte of {len(texts)} files that it never saw ({n_bytes:,} bytes):")
    for name, bits in rows.items():
        click.echo(f"  {name:<16} {bits:.3f}")

    written = lm.generate(PROMPT, max_tokens=96, temperature=0.7, top_p=0.9, seed=1)
    click.echo(f"\nit writes:\n\n{PROMPT}{written.text}\n")
    click.echo(
        "next:\n"
        f"  receptance generate {model_folder} 'class Queue:' --max-tokens 200\n"
        f"  receptance data inspect {store.path}\n"
        "  receptance train --help"
    )


def _say(text: str) -> None:
    click.echo(text, err=True)

"""`receptance train`: a training run from a TOML file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receptance.cli.invocation import command_line

if TYPE_CHECKING:
    from receptance.training import RunConfig


@click.command()
@click.argument("recipe", metavar="RUN.toml", type=click.Path(path_type=Path))
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--resume",
    default="auto",
    show_default=True,
    metavar="auto|never|PATH",
    help="Go on from the run's newest checkpoint if it has one; begin anew; or go on from PATH.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check the file and its store, and say what would be trained."
)
def command(recipe: Path, settings: tuple[str, ...], resume: str, *, dry_run: bool) -> None:
    """Train as RUN.toml says, in the folder `runs/NAME`, or go on with that run.

    KEY=VALUE changes a setting of the file, such as `optimizer.lr=4e-4`.

    Exit codes: 0 done, 3 wrong configuration or data, 4 a damaged checkpoint, 75 interrupted, to
    be resumed by the same command.
    """
    from receptance.training import read_config

    config = read_config(recipe, settings)
    if dry_run:
        click.echo(describe(config, resume))
        return

    from receptance.cli.training_run import EXIT_RESUMABLE, run_training

    outcome = run_training(config, Path("runs", config.name), resume=resume)
    if outcome.is_finished:
        write = command_line("generate", str(outcome.model_folder), "Once")
        click.echo(f"trained: {outcome.model_folder}\nlet it write: {write}", err=True)
        return
    again = command_line("train", str(recipe), *settings)
    click.echo(f"stopped after step {outcome.step:,}; go on with: {again}", err=True)
    sys.exit(EXIT_RESUMABLE)


def describe(config: "RunConfig", resume: str) -> str:
    """Return what a run would do: its beginning, its model, its data and its schedule."""
    from receptance.cli.training_run import store_batches, with_store
    from receptance.data import TokenStore
    from receptance.training import checkpoint_to_resume, plan_step, tokens_before

    store = TokenStore.open(config.data.store)
    config = with_store(config, store)
    folder = Path("runs", config.name)
    begins_at = checkpoint_to_resume(config, folder, resume)
    model = config.model.build(store.vocab_size)
    data, steps = config.data, config.training.steps
    batches = store_batches(store, config)
    n_tokens = tokens_before(data, steps)
    rates = [plan_step(config, step).lr for step in (0, steps // 2, steps - 1)]
    rows = {
        "run": f"{folder}, " + (f"from {begins_at.name} on" if begins_at else "a new one"),
        "model": f"RWKV-4, L{model.n_layer} D{model.n_embd} V{model.vocab_size}, "
        f"{model.n_parameters:,} parameters",
        "weights and moments": f"{12 * model.n_parameters / 1e9:.2f} GB",
        "steps": f"{steps:,} of {data.batch_size} × {data.ctx_len} tokens",
        "tokens": f"{n_tokens:,}, {n_tokens / batches.epoch_tokens:.2f} epochs of the store",
        "compute": f"{3 * model.flops_per_token * n_tokens:.3e} FLOP",
        "learning rate": "first {:.2e}, middle {:.2e}, last {:.2e}".format(*rates),
        "held out": f"{store.valid.n_documents:,} documents, {store.valid.n_bytes:,} bytes",
    }
    return "\n".join(f"{name:<20} {value}" for name, value in rows.items())

"""`receptance train`: a training run from a TOML file."""

import sys
from pathlib import Path

import click

from receptance.cli.invocation import command_line


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
    "--tensorboard",
    is_flag=True,
    help="Mirror the figures for TensorBoard, in the run's folder `tensorboard`.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Processor threads; all cores if not given. Another number rounds otherwise.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check the file and its store, and say what would be trained and what it would cost.",
)
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="With --dry-run: the number of processes that would share the work.",
)
def command(
    recipe: Path,
    settings: tuple[str, ...],
    *,
    resume: str,
    tensorboard: bool,
    threads: int | None,
    dry_run: bool,
    ranks: int,
) -> None:
    """Train as RUN.toml says, in the folder `runs/NAME`, or go on with that run.

    KEY=VALUE changes a setting of the file, such as `optimizer.lr=4e-4`, or of one of its
    sources `data.sources.NAME.weight=2`. Started by `torchrun`, each process is a rank of one run.

    Exit codes: 0 done, 3 wrong configuration or data, 4 a damaged checkpoint, 75 interrupted, to
    be resumed by the same command.
    """
    from receptance.training import ADAPTER_FILE, read_config

    config = read_config(recipe, settings)
    if dry_run:
        from receptance.cli.dry_run import describe

        click.echo(describe(config, resume, world_size=ranks))
        return
    if ranks > 1:
        raise click.UsageError(
            f"--ranks {ranks} goes with --dry-run; to train on several processes, start them by "
            "torchrun"
        )

    import torch

    from receptance.cli.training_run import EXIT_RESUMABLE, run_training

    if threads is not None:
        torch.set_num_threads(threads)
    folder = Path("runs", config.name)
    outcome = run_training(config, folder, resume=resume, tensorboard=tensorboard)
    if outcome.is_finished:
        trained, write = outcome.model_folder, ["generate", str(outcome.model_folder), "Once"]
        if config.finetune.method == "lora":
            trained = outcome.model_folder.with_name(ADAPTER_FILE)
            write = ["generate", config.training.init_from, "Once", "--adapter", str(trained)]
        if outcome.is_first:
            click.echo(f"trained: {trained}\nlet it write: {command_line(*write)}", err=True)
        return
    options = ["--tensorboard"] if tensorboard else []
    options += ["--threads", str(threads)] if threads is not None else []
    again = command_line("train", str(recipe), *settings, *options)
    if outcome.is_first:
        click.echo(f"stopped after step {outcome.step:,}; go on with: {again}", err=True)
    sys.exit(EXIT_RESUMABLE)

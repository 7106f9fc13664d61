"""`receptance plot`: the curves of training runs, as a picture or in the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from receptance.cli.terminal import printable, stdout_console
from receptance.errors import DataError

if TYPE_CHECKING:
    from receptance.plotting import Chart

MAX_WIDTH = 140
"""Characters in a line at most: wider curves are no easier to read."""


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--x",
    type=click.Choice(["step", "tokens", "seconds"]),
    default="step",
    show_default=True,
    help="What runs to the right: steps, tokens trained on, or time spent training.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png|.svg",
    help="The picture to make; without it the curves are drawn in the terminal.",
)
@click.option(
    "--reference",
    "is_beside_reference",
    is_flag=True,
    help="Draw the reference curves of the run's recipe too, and say whether it is within them.",
)
def command(runs: tuple[Path, ...], x: str, out: Path | None, is_beside_reference: bool) -> None:
    """Draw the curves of one or several runs: loss, held-out text, learning rate, gradient, speed.

    RUN is a run's folder, or the name of one in `runs`; a run at work is drawn as far as it is.
    """
    if is_beside_reference and x == "seconds":
        message = "--reference needs --x step or tokens: seconds are those of one machine"
        raise click.UsageError(message)
    if out is not None and out.suffix.lower() not in (".png", ".svg"):
        raise click.UsageError(f"--out must end with .png or .svg, got {str(out)!r}")
    if out is not None:
        from receptance.plotting import require_matplotlib

        require_matplotlib(", or draw in the terminal, without --out")
    folders = list(dict.fromkeys(_folder(run) for run in runs))

    from receptance.cli.run_charts import charts_of, summary
    from receptance.plotting import save_picture
    from receptance.training import METRICS_FILE, read_metrics

    labelled = {}
    for folder in folders:
        lines = read_metrics(folder / METRICS_FILE)
        if not lines:
            raise DataError(f"a run must have done a step to be drawn, but {str(folder)!r} has not")
        labelled[summary(_name(folder, folders), lines)] = lines
    charts, words = charts_of(labelled, x), []
    if is_beside_reference:
        from receptance.cli.beside_reference import beside_reference

        named = {_name(folder, folders): folder for folder in folders}
        charts, words = beside_reference(charts, named, x)
    if out is None:
        _show(charts)
    else:
        save_picture(charts, out)
        click.echo(f"drawn: {out}", err=True)
    for line in words:
        click.echo(line)


def _folder(run: Path) -> Path:
    """Return the folder of a run that was named by its path or by its name."""
    for folder in (run, Path("runs", run)):
        if folder.is_dir():
            return folder
    names = sorted(path.name for path in Path("runs").glob("*/"))
    found = f"there are {', '.join(names)}" if names else "there is none"
    raise DataError(f"a run must be a folder, or one in 'runs', but {str(run)!r} is not; {found}")


def _name(folder: Path, folders: list[Path]) -> str:
    """Return the name of a run; its path where another one has the same name."""
    names = [each.resolve().name for each in folders]
    name = folder.resolve().name
    return printable(name if names.count(name) == 1 else str(folder))


def _show(charts: "list[Chart]") -> None:
    """Draw the charts on stdout, as the terminal can show them."""
    from receptance.plotting import draw

    console = stdout_console()
    drawing = draw(
        charts,
        min(console.width, MAX_WIDTH),
        is_coloured=console.color_system is not None,
        is_braille=console.encoding.startswith("utf"),
    )
    console.print(drawing, soft_wrap=True)

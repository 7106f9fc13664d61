"""`receptance doctor`: what this machine can run, and why not the rest."""

import json
from dataclasses import asdict

import click

from receptance.cli.doctor_tables import show

SICK = 1
"""How it ends that found a problem."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
def command(as_json: bool) -> None:
    """Show what this machine can run: versions, devices, and each op's implementations.

    Every op says on every device which of its implementations runs, in training and in inference,
    and why the others cannot. Nothing is computed, written or downloaded.

    It ends with 0 where all is well, and with 1 where something keeps from running what should run
    here: an extension that is not built, or a GPU that cannot be used. Each such problem says what
    to do. A machine without a GPU is well.
    """
    from receptance.diagnosis import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(asdict(found), allow_nan=False))
    else:
        show(found)
    if found.problems:
        click.get_current_context().exit(SICK)

"""What the deployment guide gives to copy starts a server as this version starts."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from receptance.cli import serve
from receptance.cli.serve_options import settings_of

FOLDER = Path(__file__).parents[2] / "docs" / "guides" / "deployment"


def taken(args: list[str], tmp_path: Path) -> dict:
    """Return what the command makes of its arguments, with a file of keys that is there."""
    (tmp_path / "keys").touch()
    given = [str(tmp_path / "keys") if each.endswith("/keys") else each for each in args]
    return serve.command.make_context("serve", given).params


def test_the_unit_starts_a_server(tmp_path):
    unit = (FOLDER / "receptance.service").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    program, verb, *args = shlex.split(command)
    assert (Path(program).name, verb) == ("receptance", "serve")
    params = taken(args, tmp_path)
    assert params["api_key_file"] == tmp_path / "keys"

    settings = settings_of(_settings(params))

    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, flags=re.MULTILINE)
    assert settings.drain_seconds + settings.shutdown_seconds < int(stop)
    assert settings.max_connections_per_address == settings.max_connections


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_reads_the_unit(tmp_path):
    unit = (FOLDER / "receptance.service").read_text()
    program = "/opt/receptance/bin/receptance"
    assert program in unit
    (tmp_path / "receptance.service").write_text(unit.replace(program, "/bin/true"))

    read = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "receptance.service")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (read.returncode, read.stderr) == (0, "")


def test_the_container_starts_a_server(tmp_path):
    file = (FOLDER / "Containerfile").read_text()
    entry, more = (
        re.findall(rf"^{name} \[(.*)\]$", file, flags=re.MULTILINE)[0]
        for name in ("ENTRYPOINT", "CMD")
    )
    program, verb, *args = [each.strip(' "') for each in f"{entry}, {more}".split(",")]
    assert (program, verb) == ("receptance", "serve")

    params = taken(args, tmp_path)

    assert params["host"] == "0.0.0.0"
    assert params["port"] is None
    assert f"EXPOSE {settings_of(_settings(params)).port}" in file


def _settings(params: dict) -> dict:
    names = ("api_key_file", "model", "model_name", "chat_template", "quiet")
    return {name: value for name, value in params.items() if name not in names}

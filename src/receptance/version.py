"""Which version of the package this is, installed or run from its sources."""

import tomllib
from importlib import metadata
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def package_version() -> str:
    """Return the version of the package, or "unknown" where nothing says it.

    An installed package has it beside itself. Sources that are run as they lie, as by `make gpu`,
    have it in their project's file.
    """
    try:
        return metadata.version("receptance")
    except metadata.PackageNotFoundError:
        if not _PROJECT.is_file():
            return "unknown"
        return tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"]

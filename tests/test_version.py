"""The version is known, whether the package is installed or not."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from receptance import version

ROOT = Path(__file__).parents[1]
WITHOUT_PACKAGES = """
import sys
sys.path[:] = [each for each in sys.path if "site-packages" not in each]
sys.path.insert(0, "src")
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("version", "src/receptance/version.py")
module = module_from_spec(spec)
spec.loader.exec_module(module)
print(module.package_version())
"""


def test_it_is_that_of_what_is_installed():
    assert version.package_version() == metadata.version("receptance")


def test_sources_that_are_not_installed_have_that_of_their_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    done = subprocess.run(
        [sys.executable, "-S", "-c", WITHOUT_PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{project['version']}\n"


def test_where_nothing_says_it_it_is_unknown(monkeypatch, tmp_path):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(version, "_PROJECT", tmp_path / "pyproject.toml")
    assert version.package_version() == "unknown"


@pytest.mark.parametrize("folder", ["src", "paper"])
def test_nobody_else_asks_for_it(folder):
    """Whoever did would fail where the package is not installed."""
    asking = [
        str(path)
        for path in (ROOT / folder).rglob("*.py")
        if any(f"version({quote}receptance" in path.read_text("utf-8") for quote in "\"'")
    ]
    assert asking == [str(ROOT / "src/receptance/version.py")][: folder == "src"]

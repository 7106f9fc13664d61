"""A machine of little memory, as the files of its system tell it."""

from pathlib import Path

import pytest

from receptance.ops import memory


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that 8 MB can be taken, and that a control group leaves 2 MB of them.

    Returns:
        The folder: without its file `own` there are no groups, without `meminfo` nobody says.
    """
    group = folder / "cgroup" / "one" / "two"
    group.mkdir(parents=True)
    (group.parent / "memory.max").write_text(f"{4 * 2**20}\n")
    (group.parent / "memory.current").write_text(f"{3 * 2**20}\n")
    (group.parent / "memory.stat").write_text(f"anon 5\ninactive_file {2**20}\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("0\n")
    (group / "memory.stat").write_text("inactive_file 0\n")
    (folder / "own").write_text("0::/one/two\n")
    (folder / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8192 kB\n")
    monkeypatch.setattr(memory, "_CGROUPS", folder / "cgroup")
    monkeypatch.setattr(memory, "_OWN_CGROUP", folder / "own")
    monkeypatch.setattr(memory, "_MEMINFO", folder / "meminfo")
    return folder

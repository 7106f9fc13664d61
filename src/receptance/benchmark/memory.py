"""How much memory this process takes, as Linux counts it."""

from pathlib import Path


def resident_bytes() -> int | None:
    """Return the memory that this process holds now; None where the system does not tell."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """Return the most that this process ever held; None where the system does not tell.

    What `getrusage` gives would begin with the memory of the process that started this one.
    """
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int | None:
    """Return a line of this process's status, such as "VmRSS:  1024 kB"."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith(f"{key}:")]
    return int(found[0].split()[1]) * 1024 if found else None

"""Where the memory of tensors comes from on the CPU, and that it is kept between steps."""

import ctypes
import sys

# Numbers of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4

# The heap grows by at least so much at a time.
TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, so that the next step need not ask for it.

    Glibc gives each large block back to the system as it is freed. A training step allocates and
    frees gigabytes, always the same, and every page of it would be mapped, zeroed and counted
    anew: 4 % of a step's time at 2048 tokens, a fifth at 32768, and more where several threads ask
    at once. Afterwards a process holds what it held at its largest.

    It holds for the whole process and until its end, so it is for programs that only train. To be
    called before large tensors are made.

    Returns:
        Whether it is so: False where the C library has no `mallopt` (it is glibc's) or refused.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (M_MMAP_MAX, 0),  # large blocks too come from the heap,
        (M_TRIM_THRESHOLD, -1),  # which never shrinks
        (M_TOP_PAD, TOP_PAD_BYTES),
    )
    return all(mallopt(number, value) == 1 for number, value in settings)

"""Large buffers of a computation on a CPU, which glibc would give back to the system after every operation."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

# parameters of glibc's mallopt(3), from malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_buffers(environment: Mapping[str, str] = os.environ) -> bool:
    """Lets this process and its forks keep freed memory for their next buffers.

    glibc asks the system for every buffer of more than 32 MB and returns it when it is freed, and so it does with free memory
    at the end of its heap. A network asks for the same buffers in every step, and the system fills each page of them with
    zeros again. Results do not change. The process holds the most memory that it ever needed, and a little more, since gaps
    are not closed.

    On Linux with glibc only, and not where the user has chosen by a variable `MALLOC_*` or a tunable of malloc. Without effect on
    an allocator that is loaded in place of glibc's. For computations on a CPU: on a GPU the buffers of a network are torch's own,
    and those of the host should go back.

    Args:
        environment: variables of the process.

    Returns:
        Whether the settings were made.
    """
    chosen = any(name.startswith("MALLOC_") for name in environment) or "glibc.malloc." in environment.get("GLIBC_TUNABLES", "")
    if chosen or sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    # -1 is the largest threshold: nothing is trimmed
    return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1))

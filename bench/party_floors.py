"""Highest rates of this core, as a party: the rates behind every floor (bytes over bandwidth, operations over rate)."""

import tempfile
from pathlib import Path

import numpy as np

from harness import seconds, serve

_BYTES, _SIDE = 1 << 26, 1024


def read() -> float:
    """Bytes per second of reading a file that is in the page cache."""
    buffer = np.empty(_BYTES, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(bytes(_BYTES))
        return _BYTES / min(seconds(lambda: path.open("rb", buffering=0).readinto(buffer)) for _ in range(5))


def multiply() -> float:
    """Operations per second in products of square float32 matrices."""
    a, b = (np.random.default_rng(n).random((_SIDE, _SIDE), np.float32) for n in range(2))
    return 2 * _SIDE**3 / min(seconds(lambda: a @ b) for _ in range(5))


def multiply_bfloat16() -> float:
    """The same in bfloat16."""
    import torch  # takes a second, for which the other tasks need not wait

    torch.set_num_threads(1)
    a, b = (torch.randn(_SIDE, _SIDE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * _SIDE**3 / min(seconds(lambda: a @ b) for _ in range(5))


serve("floors", {"read": read, "multiply": multiply, "multiply_bfloat16": multiply_bfloat16})

"""Values and changes that files are mutated with."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

INTS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    -32768,
    65535,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-45,
    1e-38,
    1e-3,
    0.05,
    20.0,
    50.0,
    32768.0,
    1e10,
    3e38,
    -3e38,
    float("inf"),
    -float("inf"),
    float("nan"),
]

ints = st.sampled_from(INTS) | st.integers(-(2**64), 2**64)
floats = st.sampled_from(FLOATS) | st.floats(width=32)
few = st.integers(0, 3)


@st.composite
def damaged(draw: Callable[..., Any], content: bytes, most: int = 3) -> bytes:
    """Bytes with up to `most` of them changed, inserted, doubled or cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["set", "flip", "number", "cut", "drop", "insert", "double", "swap"])):
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                value = draw(ints) & (2**64 - 1)
                data[at : at + 4] = struct.pack(draw(st.sampled_from(["<L", ">L"])), value & 0xFFFFFFFF)
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 600))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=40))
            case "double":
                size = draw(st.integers(1, 1024))
                data[at:at] = data[at : at + size]
            case "swap":
                other = draw(st.integers(0, max(0, len(data) - 1)))
                size = draw(st.integers(1, 64))
                data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
    return bytes(data)


def maybe(draw: Callable[..., Any], one_in: int = 4) -> bool:
    """True now and then."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1

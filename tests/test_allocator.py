"""Memory that a process keeps, seen by the pages that the system has to fill for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from brainpretrain import allocator

CODE = """
import ctypes, resource, sys
from brainpretrain import allocator

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        buffers = [libc.malloc(2**26) for _ in range(2)]
        for buffer in buffers:
            libc.memset(buffer, 1, 2**26)
            libc.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = pages()
assert allocator.keep_buffers()
pages()
print(returned, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are glibc's")
def test_a_buffer_that_is_asked_for_again_is_still_there() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    returned, kept = map(int, done.stdout.split())
    assert returned > 100 and kept < returned / 10


@pytest.mark.parametrize(
    "chosen", [{"MALLOC_TRIM_THRESHOLD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=5"}], ids=["variable", "tunable"]
)
def test_what_the_user_has_chosen_stays(chosen: dict[str, str]) -> None:
    assert not allocator.keep_buffers(chosen)


def test_other_systems_have_no_such_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_buffers({})

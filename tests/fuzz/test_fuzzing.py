"""The guard of `make fuzz` notices forbidden actions. The fuzzing itself needs hypothesis and is not part of the tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers import ROOT

READ = """
import os, socket, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from fuzz.guard import Broken, Guard
work = Path(sys.argv[1])
guard = Guard(work, memory=32 << 20, seconds=1)
with guard.watching():
    (work / "inside").write_text("1")
    os.rename(work / "inside", work / "too")
    kept = bytearray(8 << 20)
try:
    with guard.watching():
        try:
            exec(sys.argv[2])
        except Exception:
            pass
except Broken as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("(work.parent / 'x').write_text('1')", "open outside of the folder"),
        ("os.symlink(work.parent, work / 'l'); (work / 'l' / 'x').write_text('1')", "open outside of the folder"),
        ("os.rename(work / 'too', work.parent / 'x')", "os.rename outside of the folder"),
        ("(work.parent / 'x').mkdir()", "os.mkdir outside of the folder"),
        ("os.system('true')", "os.system"),
        ("subprocess.run(['true'])", "subprocess.Popen"),
        ("socket.create_connection(('127.0.0.1', 9))", "socket."),
        ("time.sleep(30)", "took more than 1 s"),
        ("kept = bytearray(b'1') * (64 << 20); del kept", "MiB, more than 32"),
        ("Path('/etc/hostname').exists()", ""),
    ],
)
def test_the_guard_notices(tmp_path, action, message):
    (tmp_path / "work").mkdir()
    line = [sys.executable, "-B", "-c", READ, str(tmp_path / "work"), action]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT)
    assert message in done.stdout if message else not done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]

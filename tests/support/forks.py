"""Snakemake in a process of its own that starts in a moment: a fork of a process that has imported Snakemake once.

Run as a program it is the process that forks. It reads a line of JSON for each command and answers with the exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def snakemake(words: Sequence[str], folder: Path, environment: Mapping[str, str], said: Path) -> int:
    """Runs `snakemake` with these words in a folder, and returns its exit code; what it prints goes to the file `said`.

    Variables that a library reads while it is imported have no effect.
    """
    server = _server(os.getpid())
    order = {"words": list(words), "folder": str(folder), "environment": dict(environment), "said": str(said)}
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@cache
def _server(owner: int) -> subprocess.Popen:
    """The forking process, which ends when its owner does."""
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen) -> None:
    server.stdin.close()
    server.wait()
    server.stdout.close()


def _serve() -> None:
    import snakemake.cli  # noqa: F401

    import brainpretrain.config.freezing
    import brainpretrain.config.profiles
    import brainpretrain.download.download
    import brainpretrain.plan.checks
    import brainpretrain.plan.existing
    import brainpretrain.plan.specs
    import brainpretrain.plan.tables
    import brainpretrain.training.gpus  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(order: dict[str, Any]) -> None:
    """The fork: the rest of its life is the command."""
    from snakemake.cli import main

    code: Any = 1
    try:
        for stream, flags, name in ((0, os.O_RDONLY, os.devnull), (1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, order["said"])):
            os.dup2(os.open(name, flags, 0o666), stream)
        os.dup2(1, 2)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = ["snakemake", *order["words"]]
        main(order["words"])
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()

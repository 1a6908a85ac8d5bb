"""How `run` shows a study while Snakemake works: the screen of `watch` on a terminal, a line for each finished job elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from brainpretrain.errors import UserError
from brainpretrain.report import screen, status
from brainpretrain.report.jobs import Record
from brainpretrain.report.watch import Watcher

EVERY_S = 2.0  # between two looks
ERROR = re.compile(r"^\w*(Error|Exception)\b")
TAIL = 60  # lines of Snakemake's output after an error that belongs to no job
AS_THEY_ARE = (
    "study ",
    "protocol: ",
    "Nothing to be done",
    "warning",
    "Warning",
    "Error: ",
)  # beginnings of lines that are shown


class Output:
    """Snakemake's output: all of it goes to a file; what a person should see goes to `say`, in short lines.

    Attributes:
        last: the last short line.
        failed: a line for each job that failed in the end, with its reason and log.
    """

    def __init__(self, stream: TextIO, log: TextIO, say: Callable[[str], None]) -> None:
        self.record, self.last, self.tail = Record(), "", [""]
        self._told: dict[str, str] = {}
        self._thread = threading.Thread(target=self._read, args=(stream, log, say), daemon=True)
        self._thread.start()

    def _read(self, stream: TextIO, log: TextIO, say: Callable[[str], None]) -> None:
        for line in stream:
            with suppress(OSError):  # Snakemake would wait for a reader that a full disk ended
                log.write(line)
                log.flush()
            self.tail = [*self.tail[1 - TAIL :], line.rstrip("\n")]
            said = self.record.feed(line)
            if not said and line.startswith(AS_THEY_ARE):
                said = line.rstrip("\n")
            if said.startswith("FAILED: "):
                said = _with_reason(said)
                self._told[said] = self.record.last_failed
            if said:
                self.last = said
                with suppress(OSError):  # the reader of a pipe may have gone
                    say(said)

    @property
    def failed(self) -> list[str]:
        return [line for line, job in self._told.items() if job in self.record.failed]

    def wait(self) -> None:
        """Until all of it is read."""
        self._thread.join()


def _with_reason(line: str) -> str:
    """A line about a job that failed, with the error that its log ends with."""
    log = Path(line.rpartition("; log: ")[2])
    reason = status.reason(log) if "; log: " in line and log.is_file() else ""
    return f"{line.partition('; log: ')[0]}: {reason}; log: {log}" if reason else line


def run(line: list[str], watcher: Watcher, path: Path) -> int:
    """Runs Snakemake, shows its progress, and returns its exit code. Its output is in a file whose path is printed.

    Args:
        line: the command line.
        watcher: looks at the study that is run.
        path: file for the output.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"Snakemake's output: {path}", flush=True)
    console = Console()
    with open(path, "w", encoding="utf-8") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1)
        assert process.stdout is not None
        if console.is_terminal:
            output = Output(process.stdout, log, lambda said: None)
            try:
                _live(console, watcher, process, output)
            finally:
                process.wait()
        else:
            output = Output(process.stdout, log, lambda said: print(said, flush=True))
        code = process.wait()
        output.wait()
        process.stdout.close()
    if code:
        _explain(output, path, repeated=console.is_terminal)
    return code


def _live(console: Console, watcher: Watcher, process: subprocess.Popen[str], output: Output) -> None:
    """One frame after the other until Snakemake ends."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        ended = False
        while not ended:
            ended = _ended(process)
            with suppress(OSError, UserError):  # a file may go while it is read; the next look shows it
                shown = screen.rendered(watcher.frame(), console.height - 2)
                live.update(Group(shown, Text(output.last, style="dim", overflow="ellipsis", no_wrap=True)), refresh=True)


def _ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _explain(output: Output, path: Path, repeated: bool) -> None:
    """What failed, on standard error: the jobs, or the end of the output where no job is the reason."""
    if not output.failed:
        begun = max((number for number, line in enumerate(output.tail) if ERROR.match(line)), default=0)
        print("\n".join(output.tail[begun:]).strip(), file=sys.stderr)
    elif repeated:
        print("\n".join(output.failed), file=sys.stderr)
    print(f"the study did not finish; all of Snakemake's output: {path}", file=sys.stderr)

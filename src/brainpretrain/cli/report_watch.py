"""The command `watch`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from brainpretrain import config
from brainpretrain.cli.arguments import arg, command
from brainpretrain.report import screen
from brainpretrain.report.pages import html
from brainpretrain.report.pages import watch as page
from brainpretrain.report.watch import Frame, Watcher

RELOAD_S = 30  # of the page


@command(
    "watch",
    arg("study", nargs="?", default=None, metavar="STUDY",
        help="name in config/studies/ (default: the study that trains now, else that of the settings)"),
    arg("--results", type=Path, default=None, metavar="DIR", help="folder of the results (default: of the settings)"),
    arg("--once", action="store_true", help="show the state now, and end"),
    arg("--html", type=Path, default=None, metavar="FILE", help="also write it as one page that loads itself again, with curves"),
    arg("--every", type=float, default=2.0, metavar="SECONDS", help="time between two looks (default: 2)"),
)  # fmt: skip
def watch(args: argparse.Namespace) -> None:
    """Shows a whole study on one live screen: stages, running trainings, queue, trouble, and an estimate of what is left.

    It reads files alone (and asks squeue, where there is one), so it works in any shell that sees the shared folder; it starts
    and stops nothing. Ctrl-C ends it. The page of --html needs no server: a browser can open it from a file share.
    """
    watcher = Watcher(args.results or _results(), args.study)
    if args.once or not (sys.stdout.isatty() or args.html):
        frame = watcher.frame()
        Console(width=None if sys.stdout.isatty() else 160).print(screen.rendered(frame))
        _write(args.html, frame, reload_s=0 if frame.complete else RELOAD_S)
        return
    try:
        follow(watcher, args.every, lambda frame: frame.complete, args.html)
    except KeyboardInterrupt:
        print("watch has ended; the study goes on", file=sys.stderr)


def follow(watcher: Watcher, every: float, ended: Callable[[Frame], bool], page_to: Path | None = None) -> None:
    """Shows one frame after the other until `ended`, on a terminal; elsewhere only the page is written."""
    console = Console()
    written = 0.0
    with Live(console=console, auto_refresh=False, vertical_overflow="crop", transient=False) as live:
        while True:
            try:
                frame = watcher.frame()
            except OSError:  # a file may go while it is read
                time.sleep(every)
                continue
            is_last = ended(frame)
            if console.is_terminal:
                live.update(screen.rendered(frame, console.height), refresh=True)
            if page_to and (is_last or time.monotonic() - written > RELOAD_S / 2):
                _write(page_to, frame, reload_s=0 if is_last else RELOAD_S)
                written = time.monotonic()
            if is_last:
                return
            time.sleep(every)


def _write(path: Path | None, frame: Frame, reload_s: int) -> None:
    if path:
        html.write(path, page.page(frame, reload_s))


def _results() -> Path:
    """Of the settings, in the root of the repository; 'results' elsewhere."""
    return Path(config.load().settings.results) if Path("config/config.yaml").exists() else Path("results")

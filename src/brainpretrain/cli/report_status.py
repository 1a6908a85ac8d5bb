"""Commands that say something about the config and about what runs now. They import no table and no figure."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from brainpretrain.cli.arguments import OUT, arg, command
from brainpretrain.config.schema import json_schema
from brainpretrain.files import write_json
from brainpretrain.report import status as reading


@command(
    "status",
    arg("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of the results"),
    arg("--study", metavar="NAME", help="this study alone"),
    arg("--json", action="store_true", help="print all of it as JSON, with the trainings that are not begun"),
)  # fmt: skip
def status(args: argparse.Namespace) -> None:
    """Reads the run folders: state, step, patches per second, time to the end, trouble, and what was lost.

    seen: since the last sign of life. lost: steps that had to be, or will have to be, done again. Run in the root of the
    repository, it counts what is not begun too.
    """
    trainings = reading.collect(args.results, args.study)
    if args.json:
        print(json.dumps([vars(training) for training in trainings], indent=2))
    else:
        width = None if sys.stdout.isatty() else 200  # a pipe has no width
        Console(width=width).print(reading.rendered(trainings))


@command("schema", OUT)
def schema(args: argparse.Namespace) -> None:
    """Editors that know YAML schemas complete and check the files under config/ with it."""
    write_json(args.out, json_schema())

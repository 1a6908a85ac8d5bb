"""The commands `status` and `schema`. They have their own file, since `status` should start fast."""

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
    arg("--study", metavar="NAME", help="show this study only"),
    arg("--json", action="store_true", help="print everything as JSON, including trainings that have not begun"),
)  # fmt: skip
def status(args: argparse.Namespace) -> None:
    """Reads the run folders and shows state, step, patches per second, remaining time, errors and lost steps.

    seen: time since the last sign of life. lost: steps that were or will be computed twice. In the root of the repository,
    trainings that have not begun are counted too.
    """
    trainings = reading.collect(args.results, args.study)
    if args.json:
        print(json.dumps([vars(training) for training in trainings], indent=2))
    else:
        width = None if sys.stdout.isatty() else 200  # a pipe has no width
        Console(width=width).print(reading.rendered(trainings))


@command("schema", OUT)
def schema(args: argparse.Namespace) -> None:
    """Editors that support YAML schemas use it to complete and check the files in config/."""
    write_json(args.out, json_schema())

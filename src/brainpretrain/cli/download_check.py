"""The command `check`. It has its own file, since it reads headers of volumes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from brainpretrain.cli.arguments import arg, command, entry
from brainpretrain.download import check as checks
from brainpretrain.errors import UserError
from brainpretrain.words import count


@command(
    "check",
    arg("folder", type=Path, metavar="FOLDER", help="folder of volumes, or a CSV that lists them"),
    arg("--recipe", type=entry("preprocess"), default=checks.LIMITS, metavar="NAME",
        help="entry of config/preprocess.yaml whose limits hold for the headers (default: those of amaes)"),
    arg("--json", action="store_true", help="as JSON"),
)  # fmt: skip
def check(args: argparse.Namespace) -> None:
    """Prints format, subjects, sequences, labels, spacing, problems, and the YAML that makes the folder a data set of the config.

    The command recognises the data sets of datasets/, BIDS, nnU-Net's raw data, and a CSV with the columns subject, sequence and
    path.
    """
    facts = checks.check(args.folder, args.recipe)
    print(json.dumps(facts, indent=2) if args.json else checks.report(facts))
    if facts["problems"]:
        problem = f"{count(len(facts['problems']), 'problem')}, listed above"
        raise UserError(problem, where=args.folder, fix="correct them, then check again")

"""Commands of the stage evaluation that score. They import no torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import COHORT, OUT, arg, cohort, command, joined, mapping
from brainpretrain.evaluation.scores import evaluate as score_cohort
from brainpretrain.evaluation.scores import summary
from brainpretrain.files import write_tsv


@command(
    "evaluate",
    arg("--predictions", type=Path, required=True, metavar="DIR", help="folder that `predict` wrote"),
    *COHORT,
    arg("--run", type=mapping, required=True, metavar="JSON", help="columns that name the run: study, task, backbone, init ..."),
    OUT,
)  # fmt: skip
def evaluate(args: argparse.Namespace) -> None:
    """Writes scores.tsv: per case and label Dice, NSD, HD95, volumes, lesions and counts, with a status for empty masks.

    A prediction that is missing, extra, damaged, on another grid, or of unknown values ends it, and nothing is written.
    """
    cases, raw = cohort(args)
    scores = score_cohort(cases, raw, args.predictions, args.task, args.run)
    write_tsv(args.out, scores)
    print("\n".join(summary(scores)))


@command("scores", arg("tables", type=Path, nargs="+", metavar="TSV"), OUT)
def scores(args: argparse.Namespace) -> None:
    """Writes one table of all rows, in the order of the files given."""
    write_tsv(args.out, joined(args.tables))

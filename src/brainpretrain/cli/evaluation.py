"""Commands of the stage evaluation that score. They import no torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import OUT, SCORES, arg, command, mapping
from brainpretrain.cli.evaluation_cohort import COHORT, cases_of
from brainpretrain.cohorts.cases import reference_values
from brainpretrain.errors import UserError
from brainpretrain.evaluation.choosing import choose
from brainpretrain.evaluation.scores import evaluate as score_cohort
from brainpretrain.evaluation.scores import summary
from brainpretrain.files import read_tsv, read_tsvs, write_json, write_tsv


@command(
    "evaluate",
    arg("--predictions", type=Path, required=True, metavar="DIR", help="output folder of `predict-cohort`"),
    *COHORT,
    arg("--run", type=mapping, required=True, metavar="JSON", help="columns that name the run: study, task, backbone, init ..."),
    OUT,
)  # fmt: skip
def evaluate(args: argparse.Namespace) -> None:
    """Writes scores.tsv: per case and label Dice, NSD, HD95, volumes, lesions and counts, with a status for empty masks.

    Nothing is written if a prediction is missing, superfluous, damaged, on another grid, or has unknown values; nor if the label
    files of a cohort of another data set hold no value of a class, but values that the cohort does not name.
    """
    cases = cases_of(args)
    if args.cohort not in ("val", "test") and (remark := reference_values(cases, args.task, args.cohort)):
        print(f"label values that count as background: {remark}")
    scores = score_cohort(cases, args.root, args.predictions, args.task, args.run)
    write_tsv(args.out, scores)
    print("\n".join(summary(scores)))


@command(
    "choose-rate",
    SCORES,
    arg("--grid", type=float, nargs="+", required=True, metavar="LR", help="peak learning rate of each of the tables"),
    OUT,
)  # fmt: skip
def choose_rate(args: argparse.Namespace) -> None:
    """Writes the learning rate whose candidate has the highest Dice, and the Dice of all, as JSON."""
    if len(args.grid) != len(args.scores):
        raise UserError(
            f"{len(args.grid)} learning rates and {len(args.scores)} tables", where="--grid", fix="give one for each table"
        )
    chosen = choose(args.grid, [read_tsv(path) for path in args.scores])
    write_json(args.out, chosen)
    print(f"learning rate {chosen['lr']:g} of {', '.join(f'{lr:g}' for lr in args.grid)}")


@command("scores", arg("tables", type=Path, nargs="+", metavar="TSV"), OUT)
def scores(args: argparse.Namespace) -> None:
    """Writes one table of all rows, in the order of the files given."""
    write_tsv(args.out, read_tsvs(args.tables))

"""The arguments that name a cohort, shared by the commands that predict and score it, and the reader of its cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import ROOT, SPLIT, TASK, VOLUMES, arg
from brainpretrain.cohorts.cases import Case, cohort_cases
from brainpretrain.errors import UserError, nearest
from brainpretrain.files import read_json

COHORT = (
    VOLUMES,
    ROOT,
    SPLIT,
    TASK,
    arg("--n-train", required=True, help="labelled cases that the model was trained on (a number, or 'all')"),
    arg(
        "--cohort",
        required=True,
        metavar="NAME",
        help="val (pool less training cases), test (fixed test set), or the name of a cohort from another subset or data set",
    ),
    arg("--fixed", type=Path, metavar="JSON", help="output of `split` (for test) or `ood` (for other cohorts)"),
)


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The cases of the cohort that the arguments name."""
    fold, fixed = read_json(args.split), read_json(args.fixed) if args.fixed else {}
    if args.cohort != "val" and not isinstance(fixed.get(args.cohort), list):
        known = ["val", *(name for name, value in fixed.items() if isinstance(value, list) and name != "pool")]
        problem = f"no cohort '{args.cohort}'"
        raise UserError(problem, where=args.fixed or "--fixed is not given", fix=nearest(args.cohort, known))
    return cohort_cases(args.volumes, args.task["sequences"], fold, fixed, args.n_train, args.cohort)

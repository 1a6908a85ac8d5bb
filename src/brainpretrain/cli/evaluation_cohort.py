"""The arguments that name a cohort, shared by the commands that predict and score it, and the reader of its cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import ROOT, SPLIT, TASK, VOLUMES, arg
from brainpretrain.cohorts.cases import Case, cohort_cases
from brainpretrain.files import read_json

COHORT = (
    VOLUMES,
    ROOT,
    SPLIT,
    TASK,
    arg("--n-train", required=True, help="labelled cases that the model was trained on (a number, or 'all')"),
    arg("--cohort", required=True, choices=["val", "test", "ood"], help="pool less training cases, fixed test set, or ood"),
    arg("--fixed", type=Path, metavar="JSON", help="output of `split` (for test) or `ood` (for ood)"),
)


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The cases of the cohort that the arguments name."""
    fold, fixed = read_json(args.split), read_json(args.fixed) if args.fixed else {}
    return cohort_cases(args.volumes, args.task["sequences"], fold, fixed, args.n_train, args.cohort)

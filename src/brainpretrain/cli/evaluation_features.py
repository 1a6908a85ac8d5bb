"""Commands of the stage evaluation that look at features."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch

from brainpretrain import allocator
from brainpretrain.cli.arguments import OUT, TASK, VOLUMES, arg, command
from brainpretrain.cohorts.cases import cohort_cases
from brainpretrain.errors import UserError
from brainpretrain.evaluation import features
from brainpretrain.files import read_json, write_tsv


@command(
    "compare-encoders",
    arg("--models", type=Path, nargs="+", required=True, metavar="FILE", help="model.safetensors of each fold of an arm"),
    arg("--splits", type=Path, nargs="+", required=True, metavar="JSON", help="output of `fold` for each of the models"),
    arg("--init", type=Path, metavar="FILE", help="encoder.safetensors that they started from; not given: from scratch"),
    VOLUMES,
    TASK,
    arg("--n-train", required=True, help="labelled cases that the models were trained on (a number, or 'all')"),
    arg("--cohort", required=True, metavar="NAME", help="whose patches are looked at: val, test, or another cohort of the task"),
    arg("--fixed", type=Path, metavar="JSON", help="output of `split` (for test) or `ood` (for other cohorts)"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    OUT,
)  # fmt: skip
def compare_encoders(args: argparse.Namespace) -> None:
    """Writes, for each fold and level of the encoder, CKA and the change of the features on the same patches.

    docs/evaluation.md explains the numbers.
    """
    if len(args.models) != len(args.splits):
        raise UserError(
            f"{len(args.models)} models and {len(args.splits)} splits", where="--splits", fix="give one for each model"
        )
    torch.set_num_threads(args.threads)
    if not torch.cuda.is_available():
        allocator.keep_buffers()
    fixed = read_json(args.fixed) if args.fixed else {}
    found = []
    for model, split in zip(args.models, args.splits, strict=True):
        cases = cohort_cases(args.volumes, args.task["sequences"], read_json(split), fixed, args.n_train, args.cohort)
        found.append(features.compare(model, args.init, cases))
    table = pd.concat(found, ignore_index=True)
    write_tsv(args.out, table)
    print(table.groupby("level")[["cka", "change", "norm"]].mean().to_string())

"""Command of the stage cohorts for tasks over several data sets."""

from __future__ import annotations

import argparse

from brainpretrain.cli.arguments import OUT, arg, command, mapping, pairs, persons_of
from brainpretrain.cohorts import sources
from brainpretrain.cohorts.overlap import cohort_subjects
from brainpretrain.files import read_json, read_tsv, write_json


@command(
    "source",
    arg("--source", type=mapping, required=True, metavar="JSON", help="dataset, sequences, subsets and exclude of the source"),
    pairs("--cohorts", "COHORT=JSON", help="subjects of every cohort of the task that is scored"),
    pairs("--indexes", "NAME=TSV", required=True, help="indexes of the data sets of the source and of the cohorts"),
    OUT,
)  # fmt: skip
def source(args: argparse.Namespace) -> None:
    """Writes the labelled subjects of the source as JSON, without those who are scored under this or another known name."""
    indexes = {name: read_tsv(path) for name, path in args.indexes}
    drawn = [(name, read_json(path)) for name, path in args.cohorts]
    cohorts = [(name, subjects["dataset"], cohort_subjects(name, subjects)) for name, subjects in drawn]
    where = f"source {args.source['dataset']}"
    found = sources.pool(args.source, cohorts, indexes, persons_of(indexes), where)
    write_json(args.out, found)
    print(f"{where}: {len(found['pool'])} subjects")
    if found["excluded"]:
        print(f"{len(found['excluded'])} more are scored and do not train: {' '.join(found['excluded'])}")

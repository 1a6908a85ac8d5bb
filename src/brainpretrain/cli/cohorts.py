"""Commands of the stage cohorts: which subjects train, which are scored, and whether some are both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain.cli.arguments import (
    DATA,
    INDEX,
    NAMED_VOLUMES,
    OUT,
    TASK,
    VOLUMES,
    arg,
    command,
    mapping,
    named,
    progress,
    stored,
    stored_by_dataset,
)
from brainpretrain.cohorts import fingerprints, splits
from brainpretrain.cohorts.corpus import copies, make_corpus
from brainpretrain.cohorts.overlap import Cohort, check_protocol, cohort_subjects, shared_subjects
from brainpretrain.files import read_json, read_tsv, write_json, write_tsv

SUBJECTS = arg("--subjects", type=Path, required=True, metavar="JSON", help="what `split` wrote")


@command(
    "split",
    INDEX, TASK,
    arg("--asked", nargs="*", default=[], metavar="N:COHORT", help="n_train and cohort of each evaluation: are there enough?"),
    OUT,
)  # fmt: skip
def split(args: argparse.Namespace) -> None:
    """Writes the subjects of pool and fixed test set as JSON, with the seed inside."""
    index = read_tsv(args.index)
    if lacking := splits.incomplete(index, args.task):
        print("\n".join([f"{len(lacking)} labelled subjects lack a sequence of the task, and are no cases of it:", *lacking]))
    found = splits.split(index, args.task)
    asked = [(n_train, cohort) for n_train, cohort in (pair.split(":") for pair in args.asked)]
    splits.check_sizes(found, asked, f"{args.index}, task on {args.task['dataset']}")
    write_json(args.out, found)
    print(f"pool {len(found['pool'])}, test {len(found['test'])} subjects")


@command("ood", INDEX, TASK, SUBJECTS, OUT)
def ood(args: argparse.Namespace) -> None:
    """Writes them as JSON. --index is that of the cohort's data set; a subject of pool or test among them is an error."""
    found = splits.ood(read_tsv(args.index), args.task, read_json(args.subjects))
    write_json(args.out, found)
    print(f"ood {len(found['ood'])} subjects")


@command(
    "fold",
    SUBJECTS,
    arg("--fold", type=int, required=True, help="number of the fold, from 0"),
    arg("--block", type=int, required=True, help="this many first cases are disjoint between neighbouring folds"),
    OUT,
)  # fmt: skip
def fold(args: argparse.Namespace) -> None:
    """The first n subjects of the order are this fold's n_train, so label budgets are nested."""
    write_json(args.out, splits.fold(read_json(args.subjects), args.fold, args.block))


@command(
    "corpus",
    NAMED_VOLUMES,
    DATA,
    arg("--corpus", type=mapping, required=True, metavar="JSON", help="corpus entry (JSON, or @file.yaml)"),
    arg("--pools", nargs="*", default=[], metavar="TASK=JSON", help="subjects of the tasks that the corpus names in 'pool_of'"),
    arg("--seed", type=int, required=True, help="draws the validation subjects"),
    OUT,
)  # fmt: skip
def corpus(args: argparse.Namespace) -> None:
    """Writes corpus.tsv: the volumes with their role, train or val, split by subject."""
    pools = {task: set(splits.training_pool(read_json(path))) for task, path in (pair.split("=", 1) for pair in args.pools)}
    tables = stored_by_dataset(args.volumes, args.data)
    rows = make_corpus(tables, args.corpus, pools, args.seed)
    for group in copies(_of_corpus(tables, rows)):
        print(f"one image under several names, all of them to train or all to validate: {' = '.join(group)}")
    write_tsv(args.out, rows)
    n_val = int((rows["role"] == "val").sum())
    print(f"corpus: {len(rows) - n_val} volumes to train, {n_val} to validate")


def _of_corpus(tables: dict[str, Any], rows: Any) -> Any:
    """The rows of tables of stored volumes that are in a corpus."""
    whole = pd.concat([table.assign(dataset=name) for name, table in tables.items()], ignore_index=True)
    return whole.merge(rows[["dataset", "volume"]], on=["dataset", "volume"])


@command(
    "fingerprint",
    VOLUMES, OUT,
)  # fmt: skip
def fingerprint(args: argparse.Namespace) -> None:
    """Writes an .npz: a digest of the voxels and a vector that a copy keeps almost, for every accepted volume."""
    table, folder = stored(args.volumes)
    found = fingerprints.build(table, folder, progress("volume"))
    fingerprints.write(args.out, found)
    print(f"{len(found.volumes)} fingerprints")


@command(
    "overlap",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"),
    arg("--cohorts", nargs="*", default=[], metavar="TASK:COHORT=JSON", help="subjects of every cohort that is scored"),
    arg("--indexes", nargs="+", required=True, metavar="NAME=TSV", help="indexes of all data sets of corpus and cohorts"),
    arg("--fingerprints", nargs="+", required=True, metavar="NAME=NPZ", help="fingerprints of the corpus's data sets"),
    arg("--cohort-fingerprints", nargs="*", default=[], metavar="TASK:COHORT=NPZ", help="those of each cohort's data set"),
    arg("--near", type=float, required=True, metavar="R", help="correlation from which two volumes are one image (0..1)"),
    arg("--protocol", choices=["strict", "amaes"], required=True, help="strict: a shared subject is an error"),
    OUT,
    arg("--pairs", type=Path, required=True, metavar="FILE", help="file to write: who of the cohorts is who of the corpus"),
)  # fmt: skip
def overlap(args: argparse.Namespace) -> None:
    """Writes a row per task, cohort and data set with the subjects that are shared, and a row per pair of subjects."""
    corpus, indexes = read_tsv(args.corpus), {name: read_tsv(path) for name, path in named(args.indexes).items()}
    stored, files, cohorts = named(args.fingerprints), named(args.cohort_fingerprints), []
    for name, path in named(args.cohorts).items():
        (task, cohort), whole = name.split(":"), read_json(path)
        subjects = cohort_subjects(cohort, whole)
        rows = indexes[whole["dataset"]]
        volumes = rows.loc[rows["subject"].isin(subjects), "volume"]
        images = _copies(volumes, files[name], corpus, stored, args.near)
        cohorts.append(Cohort(task, cohort, whole["dataset"], subjects, images))
    shared, pairs = shared_subjects(corpus, cohorts, indexes)
    check_protocol(shared, pairs, args.protocol)
    write_tsv(args.out, shared)
    write_tsv(args.pairs, pairs)
    for row in shared.to_dict("records"):
        print("{task}, {cohort}: {shared} of {evaluated} subjects ({by_name} by name, {by_content} by image)".format(**row))


def _copies(volumes: Any, path: str, corpus: Any, stored: dict[str, str], near: float) -> Any:
    """Pairs of `volumes`, whose fingerprints are in `path`, and volumes of the corpus; one data set of it in memory at a time."""
    cohort, parts = fingerprints.read(path).of(volumes), []
    for dataset, file in stored.items():
        kept = fingerprints.read(file).of(corpus.loc[corpus["dataset"] == dataset, "volume"])
        parts.append(fingerprints.copies(cohort, kept, near).assign(corpus_dataset=dataset))
    return pd.concat(parts, ignore_index=True)

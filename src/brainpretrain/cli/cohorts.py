"""Commands of the stage cohorts that draw subjects: splits, folds and the corpus of a pretraining."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import (
    DATA,
    INDEX,
    NAMED_VOLUMES,
    OUT,
    SUBJECTS,
    TASK,
    arg,
    command,
    mapping,
    pairs,
)
from brainpretrain.cohorts import filters, kfold, sources, splits
from brainpretrain.cohorts.corpus import copies_in_corpus, filtered, make_corpus
from brainpretrain.files import read_json, read_tsv, write_json, write_tsv
from brainpretrain.preprocess.stored import read_stored_of


@command(
    "split",
    INDEX, TASK,
    pairs("--asked", "N:COHORT", help="n_train and cohort of each planned evaluation, to check that there are enough subjects"),
    arg("--given", type=Path, metavar="JSON", help="folds of a cross-validation in the format of nnU-Net's splits_final.json"),
    OUT,
)  # fmt: skip
def split(args: argparse.Namespace) -> None:
    """Writes the subjects of the pool and of the fixed test set as JSON, with the seed of the draw.

    Of a cross-validation also splits_final.json next to it, as nnU-Net reads it.
    """
    index = read_tsv(args.index)
    if incomplete := splits.incomplete(index, args.task):
        print(f"{len(incomplete)} labelled subjects lack a sequence of the task and are not used:", *incomplete, sep="\n")
    subjects = splits.split_for(index, args.task, args.asked, f"{args.index}, task on {args.task['dataset']}", args.given)
    write_json(args.out, subjects)
    if parts := subjects.get("parts"):
        write_json(args.out.with_name("splits_final.json"), kfold.as_nnunet(parts))
        print(f"{len(subjects['pool'])} subjects in parts of {' '.join(str(len(part)) for part in parts)}")
        return
    print(f"pool {len(subjects['pool'])}, test {len(subjects['test'])} subjects")


@command("ood", INDEX, TASK, SUBJECTS, arg("--cohort", default="ood", metavar="NAME", help="its name in the task"), OUT)
def ood(args: argparse.Namespace) -> None:
    """Writes the subjects as JSON. --index is the index of the cohort's data set; --task has the cohort's entry as `ood`.

    It is an error if a subject of the pool or the test set is among them.
    """
    subjects = splits.ood(read_tsv(args.index), args.task, read_json(args.subjects), args.cohort)
    write_json(args.out, subjects)
    print(f"{args.cohort} {len(subjects[args.cohort])} subjects")


@command(
    "fold",
    SUBJECTS,
    arg("--fold", type=int, required=True, help="number of the fold, from 0"),
    arg("--block", type=int, required=True, help="this many first cases are disjoint between neighbouring folds"),
    arg("--sources", type=Path, nargs="*", default=[], metavar="JSON", help="output of `source` for each source of the task"),
    OUT,
)  # fmt: skip
def fold(args: argparse.Namespace) -> None:
    """The first n subjects of the order are the training subjects of this fold for n_train = n, so label budgets are nested."""
    subjects = read_json(args.subjects)
    drawn = splits.fold(subjects, args.fold, args.block)
    if args.sources:
        drawn["sources"] = sources.orders([read_json(path) for path in args.sources], args.fold, subjects["seed"])
    write_json(args.out, drawn)


@command(
    "corpus",
    NAMED_VOLUMES, DATA,
    arg("--corpus", type=mapping, required=True, metavar="JSON", help="corpus entry (JSON, or @file.yaml)"),
    pairs("--pools", "TASK=JSON", help="output of `split` for each task that the corpus names in 'pool_of'"),
    arg("--seed", type=int, required=True, help="seed of the draw of validation subjects"),
    OUT,
)  # fmt: skip
def corpus(args: argparse.Namespace) -> None:
    """Writes corpus.tsv: the volumes with their role, train or val, split by subject.

    With `filters`, filtered.tsv beside it has the volumes that they leave out, and why.
    """
    pools = {task: set(splits.training_pool(read_json(path))) for task, path in args.pools}
    tables = read_stored_of(args.volumes, args.data)
    limits = args.corpus.get("filters") or {}
    if limits.get("min_file_kb"):
        tables = {name: filters.with_raw_bytes(table, args.data / name) for name, table in tables.items()}
    rows = make_corpus(tables, args.corpus, pools, args.seed)
    for names in copies_in_corpus(tables, rows):
        print(f"one image under several names, which therefore have the same role: {' = '.join(names)}")
    if limits:
        left_out = filtered(tables, args.corpus, pools)
        write_tsv(args.out.with_name(filters.FILTERED), left_out)
        print(f"filters leave out {len(left_out)} volumes:", dict(left_out["reason"].value_counts()) or "none")
    write_tsv(args.out, rows)
    n_val = int((rows["role"] == "val").sum())
    print(f"corpus: {len(rows) - n_val} volumes to train, {n_val} to validate")

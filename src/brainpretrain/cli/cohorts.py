"""Commands of the stage cohorts: which subjects train, which are scored, and whether some are both."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import (
    CORPUS,
    DATA,
    INDEX,
    NAMED_VOLUMES,
    OUT,
    SUBJECTS,
    TASK,
    VOLUMES,
    arg,
    command,
    mapping,
    pairs,
    progress,
)
from brainpretrain.cohorts import fingerprints, splits
from brainpretrain.cohorts.corpus import copies_in_corpus, make_corpus
from brainpretrain.cohorts.overlap import Cohort, check_protocol, cohort_subjects, shared_subjects
from brainpretrain.files import read_json, read_tsv, write_json, write_tsv
from brainpretrain.preprocess.stored import read_stored, read_stored_of


@command(
    "split",
    INDEX, TASK,
    pairs("--asked", "N:COHORT", help="n_train and cohort of each planned evaluation, to check that there are enough subjects"),
    OUT,
)  # fmt: skip
def split(args: argparse.Namespace) -> None:
    """Writes the subjects of the pool and of the fixed test set as JSON, with the seed of the draw."""
    index = read_tsv(args.index)
    if incomplete := splits.incomplete(index, args.task):
        print(f"{len(incomplete)} labelled subjects lack a sequence of the task and are not used:", *incomplete, sep="\n")
    subjects = splits.split(index, args.task)
    splits.check_sizes(subjects, args.asked, f"{args.index}, task on {args.task['dataset']}")
    write_json(args.out, subjects)
    print(f"pool {len(subjects['pool'])}, test {len(subjects['test'])} subjects")


@command("ood", INDEX, TASK, SUBJECTS, OUT)
def ood(args: argparse.Namespace) -> None:
    """Writes the subjects as JSON. --index is the index of the cohort's data set. It is an error if a subject of the pool or the
    test set is among them.
    """
    subjects = splits.ood(read_tsv(args.index), args.task, read_json(args.subjects))
    write_json(args.out, subjects)
    print(f"ood {len(subjects['ood'])} subjects")


@command(
    "fold",
    SUBJECTS,
    arg("--fold", type=int, required=True, help="number of the fold, from 0"),
    arg("--block", type=int, required=True, help="this many first cases are disjoint between neighbouring folds"),
    OUT,
)  # fmt: skip
def fold(args: argparse.Namespace) -> None:
    """The first n subjects of the order are the training subjects of this fold for n_train = n, so label budgets are nested."""
    write_json(args.out, splits.fold(read_json(args.subjects), args.fold, args.block))


@command(
    "corpus",
    NAMED_VOLUMES, DATA,
    arg("--corpus", type=mapping, required=True, metavar="JSON", help="corpus entry (JSON, or @file.yaml)"),
    pairs("--pools", "TASK=JSON", help="output of `split` for each task that the corpus names in 'pool_of'"),
    arg("--seed", type=int, required=True, help="seed of the draw of validation subjects"),
    OUT,
)  # fmt: skip
def corpus(args: argparse.Namespace) -> None:
    """Writes corpus.tsv: the volumes with their role, train or val, split by subject."""
    pools = {task: set(splits.training_pool(read_json(path))) for task, path in args.pools}
    tables = read_stored_of(args.volumes, args.data)
    rows = make_corpus(tables, args.corpus, pools, args.seed)
    for names in copies_in_corpus(tables, rows):
        print(f"one image under several names, which therefore have the same role: {' = '.join(names)}")
    write_tsv(args.out, rows)
    n_val = int((rows["role"] == "val").sum())
    print(f"corpus: {len(rows) - n_val} volumes to train, {n_val} to validate")


@command("fingerprint", VOLUMES, OUT)
def fingerprint(args: argparse.Namespace) -> None:
    """Writes an .npz that holds, for every accepted volume, a digest of its voxels and a vector that hardly changes in a copy."""
    table, folder = read_stored(args.volumes)
    prints = fingerprints.build(table, folder, progress("volume"))
    fingerprints.write(args.out, prints)
    print(f"{len(prints.volumes)} fingerprints")


@command(
    "overlap",
    CORPUS,
    pairs("--cohorts", "TASK:COHORT=JSON", help="subjects of every cohort that is scored"),
    pairs("--indexes", "NAME=TSV", required=True, help="indexes of all data sets of corpus and cohorts"),
    pairs("--fingerprints", "NAME=NPZ", required=True, help="fingerprints of the corpus's data sets"),
    pairs("--cohort-fingerprints", "TASK:COHORT=NPZ", help="fingerprints of each cohort's data set"),
    arg("--near", type=float, required=True, metavar="R", help="correlation from which two volumes are one image (0..1)"),
    arg("--protocol", choices=["strict", "amaes"], required=True, help="strict: a shared subject is an error"),
    OUT,
    arg("--pairs", type=Path, required=True, metavar="FILE", help="file to write: pairs of one cohort and one corpus subject"),
)  # fmt: skip
def overlap(args: argparse.Namespace) -> None:
    """Writes a row per task, cohort and data set with the subjects that are shared, and a row per pair of subjects."""
    rows = read_tsv(args.corpus)
    indexes = {name: read_tsv(path) for name, path in args.indexes}
    files, files_of_cohorts, cohorts = dict(args.fingerprints), dict(args.cohort_fingerprints), []
    for name, path in args.cohorts:
        (task, cohort), drawn = name.split(":"), read_json(path)
        subjects = cohort_subjects(cohort, drawn)
        index = indexes[drawn["dataset"]]
        prints = fingerprints.read(files_of_cohorts[name]).of(index.loc[index["subject"].isin(subjects), "volume"])
        images = fingerprints.copies_in_corpus(prints, rows, files, args.near)
        cohorts.append(Cohort(task, cohort, drawn["dataset"], subjects, images))
    shared, subject_pairs = shared_subjects(rows, cohorts, indexes)
    check_protocol(shared, subject_pairs, args.protocol)
    write_tsv(args.out, shared)
    write_tsv(args.pairs, subject_pairs)
    for row in shared.to_dict("records"):
        print("{task}, {cohort}: {shared} of {evaluated} subjects ({by_name} by name, {by_content} by image)".format(**row))

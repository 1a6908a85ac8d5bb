"""Commands of the stage cohorts that compare images: subjects that are both in a corpus and scored."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import (
    CORPUS,
    OUT,
    VOLUMES,
    arg,
    command,
    pairs,
    progress,
)
from brainpretrain.cohorts import fingerprints
from brainpretrain.cohorts.overlap import Cohort, check_protocol, cohort_subjects, shared_subjects
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.preprocess.stored import read_stored


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

"""Commands of the stage cohorts that compare images: subjects that are both in a corpus and scored."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import OUT, VOLUMES, WORKERS, arg, command, pairs, persons_of, progress
from brainpretrain.cohorts import copies, fingerprints
from brainpretrain.cohorts.copies import Volumes
from brainpretrain.cohorts.overlap import Cohort, check_protocol, cohort_subjects, shared_subjects
from brainpretrain.cohorts.sources import volumes_of
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.preprocess.stored import read_stored


@command("fingerprint", VOLUMES, WORKERS, OUT)
def fingerprint(args: argparse.Namespace) -> None:
    """Writes an .npz that holds, for every accepted volume, a digest of its voxels and vectors that hardly change in a copy."""
    table, folder = read_stored(args.volumes)
    prints = fingerprints.build(table, folder, progress("volume"), args.workers)
    fingerprints.write(args.out, prints)
    print(f"{len(prints.volumes)} fingerprints; no whole brain in {prints.without_brain} of the volumes")


@command(
    "overlap",
    arg("--corpus", type=Path, metavar="TSV", help="corpus.tsv"),
    arg("--sources", type=Path, nargs="*", default=[], metavar="JSON",
        help="instead of a corpus: output of `source` for each source of a task"),
    pairs("--cohorts", "TASK:COHORT=JSON", help="subjects of every cohort that is scored"),
    pairs("--indexes", "NAME=TSV", required=True, help="indexes of all data sets of corpus and cohorts"),
    pairs("--fingerprints", "NAME=NPZ", required=True, help="fingerprints of the corpus's data sets, beside volumes.tsv"),
    pairs("--cohort-fingerprints", "TASK:COHORT=NPZ", help="fingerprints of each cohort's data set, beside volumes.tsv"),
    arg("--near", type=float, required=True, metavar="R", help="correlation from which two volumes are one image (0..1)"),
    arg("--protocol", choices=["strict", "amaes"], required=True, help="strict: a shared subject is an error"),
    OUT,
    arg("--pairs", type=Path, required=True, metavar="FILE", help="file to write: pairs of one cohort and one corpus subject"),
    arg("--pictures", type=Path, required=True, metavar="NPZ", help="file to write: slices of the pairs that images reveal"),
)  # fmt: skip
def overlap(args: argparse.Namespace) -> None:
    """Writes a row per task, cohort and data set with the subjects that are shared, a row per pair of subjects, and pictures.

    What is compared with the cohorts is a corpus, or the sources of a task.
    """
    indexes = {name: read_tsv(path) for name, path in args.indexes}
    rows = read_tsv(args.corpus) if args.corpus else volumes_of([read_json(path) for path in args.sources], indexes)
    files, files_of_cohorts, cohorts = dict(args.fingerprints), dict(args.cohort_fingerprints), []
    for name, path in args.cohorts:
        (task, cohort), drawn = name.split(":"), read_json(path)
        subjects = cohort_subjects(cohort, drawn)
        index = indexes[drawn["dataset"]]
        volumes = Volumes.of(files_of_cohorts[name], index.loc[index["subject"].isin(subjects), "volume"])
        images = copies.in_corpus(volumes, rows, files, args.near, progress("volume compared"))
        cohorts.append(Cohort(task, cohort, drawn["dataset"], subjects, images, volumes.prints.without_brain))
    shared, subject_pairs = shared_subjects(rows, cohorts, indexes, persons_of(indexes))
    check_protocol(shared, subject_pairs, args.protocol, "the pretraining corpus" if args.corpus else "the sources of the task")
    write_tsv(args.out, shared)
    write_tsv(args.pairs, subject_pairs)
    prints_of = {tuple(name.split(":")): path for name, path in files_of_cohorts.items()}
    copies.write_pictures(args.pictures, copies.pictures(subject_pairs, prints_of, files))
    for row in shared.to_dict("records"):
        text = "{task}, {cohort}: {shared} of {evaluated} subjects ({by_name} by name, {by_content} by image), {look} to look at"
        text += "; {without_brain} volumes without a whole brain were compared by digest and outline only"
        print(text.format(**row))
